"""The cost of registering and querying a stream task, from 1 to 100: python -m benchmarks.registration --data MNIST.npz

Protocol: permuted-MNIST of digits of 14 × 14 pixels, one torch thread, CPU time. Each learner registers the same stream
tasks. Growth is the median time of the last ten tasks over that of tasks 2 to 11.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import psutil
import torch
import typer
from jaxtyping import Float
from rich.console import Console
from torch import Tensor
from torch.nn import functional as F

from benchmarks.family.interleaved_timing import take_turns
from experiments.continual.accuracy_plots import Curve, charts
from experiments.continual.task_streams import Examples
from experiments.figures import check_matplotlib
from models.continual.analytic import AnalyticConfig, AnalyticStream
from models.continual.generated_networks import HyperStreamConfig
from models.continual.hypernetwork import HyperStream
from models.data import mnist
from models.predictive import Categorical
from models.stream_protocol import StreamLearner, StreamVersion
from models.training.card import table

SIDE, WAY, TOP = 14, 10, 2
_ENDS = 10
_FEW = 5
"""Number of stream tasks to which the cost of a query with all of them is compared."""
_MEASURED_EVERY = 10
_ROUNDS = 200
MOST_REGISTER_GROWTH, MOST_QUERY_GROWTH, MOST_ACCURACY_LOSS = 1.2, 1.5, 0.3
"""Targets for the time to register, the time of a query, and the mean accuracy in points."""
console = Console(stderr=True)


def hypernetwork(regulariser: str, iterations: int) -> StreamLearner:
    """Return the learner with the service's defaults except for a smaller target network."""
    config = HyperStreamConfig.model_validate(
        {
            "hidden": (100, 100),
            "outputs": WAY,
            "regulariser": regulariser,
            "iterations": iterations,
        }
    )
    return HyperStream((SIDE * SIDE,), "cl3", config, None, 0)


LEARNERS: dict[str, Callable[[int], StreamLearner]] = {
    "gram": lambda iterations: hypernetwork("gram", iterations),
    "sampled": lambda iterations: hypernetwork("sampled", iterations),
    "direct": lambda iterations: hypernetwork("direct", iterations),
    "analytic": lambda iterations: AnalyticStream((SIDE * SIDE,), "cl3", AnalyticConfig(), None, 0),
}


class PermutedStream:
    """Digits with pixels permuted in each stream task."""

    def __init__(self, digits: mnist.Digits, tasks: int, examples: int, tests: int) -> None:
        self.tasks = tasks
        self.train = _small(digits.train_x[:examples]), digits.train_y[:examples]
        self.test = _small(digits.test_x[:tests]), digits.test_y[:tests]
        generator = torch.Generator().manual_seed(0)
        self.orders = [torch.randperm(SIDE * SIDE, generator=generator) for _ in range(tasks)]

    def examples(self, task: int) -> Examples:
        """Return the training digits of a stream task."""
        return self.train[0][:, self.orders[task]], self.train[1]

    def accuracy(self, learner: StreamLearner, version: StreamVersion) -> float:
        """Return the mean accuracy over the stream tasks so far, given the task."""
        x, y = self.test
        found = []
        for task in range(len(version.tasks)):
            answer = learner.predict(
                learner.weights(version, str(task)), learner.embed(x[:, self.orders[task]])[None]
            )
            assert isinstance(answer, Categorical)
            found.append(float((answer.probabilities[0].argmax(-1) == y).double().mean()))
        return statistics.fmean(found)


def registered(
    name: str, stream: PermutedStream, iterations: int
) -> tuple[dict[str, Any], StreamLearner, list[StreamVersion]]:
    """Register all stream tasks. Return the row, the learner, and its versions of few and of all stream tasks."""
    learner, process = LEARNERS[name](iterations), psutil.Process()
    version: StreamVersion | None = None
    seconds, sizes, resident, accuracy = [], [], [], {}
    versions: list[StreamVersion] = []
    for task in range(stream.tasks):
        x, y = stream.examples(task)
        labels = tuple(str(WAY * task + index) for index in range(WAY))
        start = time.process_time()
        version = learner.register(version, str(task), labels, x, y)
        seconds.append(round(time.process_time() - start, 3))
        sizes.append(_bytes(version))
        resident.append(process.memory_info().rss)
        if (task + 1) % _MEASURED_EVERY == 0 or task + 1 == stream.tasks:
            accuracy[task + 1] = stream.accuracy(learner, version)
            console.print(f"{name}: {task + 1} tasks, {seconds[-1]:.2f} s, {100 * accuracy[task + 1]:.2f} %")
        if task + 1 in (_FEW, stream.tasks):
            versions.append(version)
    ends = min(_ENDS, (stream.tasks - 1) // 2)
    row = {
        "kept_by": name,
        "accuracy_told": accuracy[stream.tasks],
        "seconds_first": statistics.median(seconds[1 : 1 + ends]),
        "seconds_last": statistics.median(seconds[-ends:]),
        "growth": statistics.median(seconds[-ends:]) / statistics.median(seconds[1 : 1 + ends]),
        "shared_bytes": sum(_size(value) for value in versions[-1].shared.values()),
        "own_bytes_each": sum(_size(value) for value in versions[-1].per_task["0"].values()),
        "seconds": seconds,
        "version_bytes": sizes,
        "resident_bytes": resident,
        "accuracy": accuracy,
    }
    return row, learner, versions


def query_times(
    learner: StreamLearner, versions: list[StreamVersion], stream: PermutedStream
) -> dict[str, float]:
    """Return the milliseconds of a query without its stream task: the gate, then two networks, with cached weights."""

    def queries_of(version: StreamVersion) -> Callable[[], object]:
        gate = learner.gate(version)
        weights = [learner.weights(version, task) for task in version.tasks]
        queries = stream.test[0][:, stream.orders[0]]

        @torch.inference_mode()
        def query_all() -> object:
            for query in queries[:16].split(1):
                features = learner.embed(query)[None]
                chosen = learner.posterior(gate, features).log_probs[0, 0].topk(TOP).indices
                for task in chosen.tolist():
                    learner.predict(weights[task], features)
            return None

        return query_all

    few, many = (f"{len(version.tasks)} tasks" for version in versions)
    turns = take_turns({few: queries_of(versions[0]), many: queries_of(versions[1])}, _ROUNDS, 20.0)
    return {
        "query_ms_few": 1000 * turns.cpu(few) / 16,
        "query_ms_all": 1000 * turns.cpu(many) / 16,
        "query_growth": turns.times(many, few)[0],
    }


def main(
    data: Annotated[Path, typer.Option(help="MNIST as an npz.")],
    learners: Annotated[
        str, typer.Option("--ways", help=f"Learners, separated by commas: {', '.join(LEARNERS)}.")
    ] = ",".join(LEARNERS),
    tasks: Annotated[int, typer.Option(min=_FEW + 1)] = 100,
    iterations: Annotated[int, typer.Option(help="Steps per stream task.")] = 600,
    examples: Annotated[int, typer.Option(help="Digits per stream task.")] = 2000,
    tests: int = 1000,
    write: Annotated[Path | None, typer.Option(help="Folder for registration.json, .md and .png.")] = None,
) -> None:
    if write is not None:
        check_matplotlib()
    torch.set_num_threads(1)
    stream = PermutedStream(mnist.load(data), tasks, examples, tests)
    rows = []
    for name in learners.split(","):
        row, learner, versions = registered(name, stream, iterations)
        rows.append({**row, **query_times(learner, versions, stream)})
        typer.echo(json.dumps({key: value for key, value in rows[-1].items() if not isinstance(value, list)}))
    found = {
        "protocol": f"permuted-MNIST of {SIDE} × {SIDE} pixels, {tasks} stream tasks of {examples:,} digits, "
        f"{iterations} steps each, MLP 100-100; accuracy on {tests:,} digits per stream task, given the task",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, one thread",
        "ways": rows,
    }
    typer.echo(_page(found))
    if write is not None:
        (write / "registration.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        (write / "registration.md").write_text(_page(found), encoding="utf-8")
        (write / "registration.png").write_bytes(_picture(rows))


def _page(found: dict[str, Any]) -> str:
    rows = found["ways"]
    reference = next((row["accuracy_told"] for row in rows if row["kept_by"] == "direct"), None)
    cells = [
        {
            "learner": row["kept_by"],
            "register: s, first ten → last ten": f"{row['seconds_first']:.2f} → {row['seconds_last']:.2f}",
            f"ratio, target {MOST_REGISTER_GROWTH}": f"{row['growth']:.2f}",
            "query, ms": f"{row['query_ms_few']:.2f} → {row['query_ms_all']:.2f}",
            f"ratio, target {MOST_QUERY_GROWTH} ": f"{row['query_growth']:.2f}",
            "accuracy, %": f"{100 * row['accuracy_told']:.2f}",
            f"minus direct, target ± {MOST_ACCURACY_LOSS}": "–"
            if reference is None or row["kept_by"] == "analytic"
            else f"{100 * (row['accuracy_told'] - reference):+.2f}",
            "shared, kB": f"{row['shared_bytes'] / 1e3:,.0f}",
            "per task, kB": f"{row['own_bytes_each'] / 1e3:,.0f}",
        }
        for row in rows
    ]
    return "\n".join(
        [
            "# Registering 100 stream tasks",
            "",
            "`python -m benchmarks.registration`; seconds are CPU seconds.",
            "",
            f"- {found['protocol']}",
            f"- {found['machine']}",
            "- gram, direct and sampled: ways to compute the hypernetwork's regulariser over earlier tasks; direct is "
            "the definition; analytic: closed forms only",
            f"- query: one query without its task, by the gate and then the {TOP} likeliest networks, with cached "
            f"weights; at {_FEW} tasks → at all",
            "",
            *table(cells),
            "",
            "![Seconds, size and memory along the stream](registration.png)",
            "",
        ]
    )


def _picture(rows: list[dict[str, Any]]) -> bytes:
    columns = {
        "seconds to register": ("seconds", 1.0),
        "size of the version, MB": ("version_bytes", 1e6),
        "resident memory, MB": ("resident_bytes", 1e6),
    }
    panels = {
        label: {
            row["kept_by"]: Curve.without_intervals([value / unit for value in row[name]]) for row in rows
        }
        for label, (name, unit) in columns.items()
    }
    return charts(panels, "registering stream tasks")


def _small(x: Float[Tensor, "n 28 28"]) -> Float[Tensor, "n pixels"]:
    return F.avg_pool2d(x[:, None], 2).flatten(1)


def _bytes(version: StreamVersion) -> int:
    parts = [version.shared, *version.per_task.values()]
    return sum(_size(value) for part in parts for value in part.values())


def _size(value: Tensor) -> int:
    return value.numel() * value.element_size()


if __name__ == "__main__":
    typer.run(main)
