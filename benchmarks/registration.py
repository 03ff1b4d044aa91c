"""What a stream task costs to register and to ask, from 1 to 100: python -m benchmarks.registration --data MNIST.npz

Protocol: permuted-MNIST of digits of 14 × 14 pixels, one torch thread, times by processor time. Each way of keeping
what a stream knows registers the same stream tasks. Growth: median time of the last ten over that of tasks 2 to 11.
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
from jaxtyping import Float, Int
from rich.console import Console
from torch import Tensor
from torch.nn import functional as F

from benchmarks.family.interleaved_timing import take_turns
from experiments.continual.accuracy_plots import Curve, charts
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
"""Stream tasks that a query at all of them is compared with."""
_MEASURED_EVERY = 10
_ROUNDS = 200
GROWTH, ASKED, WITHIN = 1.2, 1.5, 0.3
"""Aims: of the time to register, of the time of a query, and of mean accuracy in points."""
console = Console(stderr=True)
Examples = tuple[Float[Tensor, "n pixels"], Int[Tensor, "n"]]


def hypernetwork(regulariser: str, iterations: int) -> StreamLearner:
    """As the service's defaults make it, but for a smaller target network."""
    config = HyperStreamConfig.model_validate(
        {
            "hidden": (100, 100),
            "outputs": WAY,
            "regulariser": regulariser,
            "iterations": iterations,
        }
    )
    return HyperStream((SIDE * SIDE,), "cl3", config, None, 0)


WAYS: dict[str, Callable[[int], StreamLearner]] = {
    "gram": lambda iterations: hypernetwork("gram", iterations),
    "sampled": lambda iterations: hypernetwork("sampled", iterations),
    "direct": lambda iterations: hypernetwork("direct", iterations),
    "analytic": lambda iterations: AnalyticStream((SIDE * SIDE,), "cl3", AnalyticConfig(), None, 0),
}


class PermutedStream:
    """Digits in so many orders of their pixels."""

    def __init__(self, digits: mnist.Digits, tasks: int, examples: int, tests: int) -> None:
        self.tasks = tasks
        self.train = _small(digits.train_x[:examples]), digits.train_y[:examples]
        self.test = _small(digits.test_x[:tests]), digits.test_y[:tests]
        generator = torch.Generator().manual_seed(0)
        self.orders = [torch.randperm(SIDE * SIDE, generator=generator) for _ in range(tasks)]

    def examples(self, task: int) -> Examples:
        return self.train[0][:, self.orders[task]], self.train[1]

    def accuracy(self, learner: StreamLearner, version: StreamVersion) -> float:
        """Mean over the stream tasks so far, each being told."""
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
    """The row of one way, its learner, and its versions of few and of all stream tasks."""
    learner, process = WAYS[name](iterations), psutil.Process()
    version: StreamVersion | None = None
    seconds, sizes, resident, accuracy = [], [], [], {}
    kept: list[StreamVersion] = []
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
            kept.append(version)
    ends = min(_ENDS, (stream.tasks - 1) // 2)
    row = {
        "kept_by": name,
        "accuracy_told": accuracy[stream.tasks],
        "seconds_first": statistics.median(seconds[1 : 1 + ends]),
        "seconds_last": statistics.median(seconds[-ends:]),
        "growth": statistics.median(seconds[-ends:]) / statistics.median(seconds[1 : 1 + ends]),
        "shared_bytes": sum(_size(value) for value in kept[-1].shared.values()),
        "own_bytes_each": sum(_size(value) for value in kept[-1].per_task["0"].values()),
        "seconds": seconds,
        "version_bytes": sizes,
        "resident_bytes": resident,
        "accuracy": accuracy,
    }
    return row, learner, kept


def asked(learner: StreamLearner, versions: list[StreamVersion], stream: PermutedStream) -> dict[str, float]:
    """Milliseconds of one query whose stream task is not told, weights being cached: the gate, then two networks."""

    def asks(version: StreamVersion) -> Callable[[], object]:
        gate = learner.gate(version)
        weights = [learner.weights(version, task) for task in version.tasks]
        queries = stream.test[0][:, stream.orders[0]]

        @torch.inference_mode()
        def ask() -> object:
            for query in queries[:16].split(1):
                features = learner.embed(query)[None]
                chosen = learner.posterior(gate, features).log_probs[0, 0].topk(TOP).indices
                for task in chosen.tolist():
                    learner.predict(weights[task], features)
            return None

        return ask

    few, many = (f"{len(version.tasks)} tasks" for version in versions)
    turns = take_turns({few: asks(versions[0]), many: asks(versions[1])}, _ROUNDS, 20.0)
    return {
        "query_ms_few": 1000 * turns.cpu(few) / 16,
        "query_ms_all": 1000 * turns.cpu(many) / 16,
        "query_growth": turns.times(many, few)[0],
    }


def main(
    data: Annotated[Path, typer.Option(help="MNIST as an npz.")],
    ways: Annotated[str, typer.Option(help=f"With commas: {', '.join(WAYS)}.")] = ",".join(WAYS),
    tasks: Annotated[int, typer.Option(min=_FEW + 1)] = 100,
    iterations: Annotated[int, typer.Option(help="Steps a stream task.")] = 600,
    examples: Annotated[int, typer.Option(help="Digits a stream task.")] = 2000,
    tests: int = 1000,
    write: Annotated[Path | None, typer.Option(help="Folder for registration.json, .md and .png.")] = None,
) -> None:
    if write is not None:
        check_matplotlib()
    torch.set_num_threads(1)
    stream = PermutedStream(mnist.load(data), tasks, examples, tests)
    rows = []
    for name in ways.split(","):
        row, learner, versions = registered(name, stream, iterations)
        rows.append({**row, **asked(learner, versions, stream)})
        typer.echo(json.dumps({key: value for key, value in rows[-1].items() if not isinstance(value, list)}))
    found = {
        "protocol": f"permuted-MNIST of {SIDE} × {SIDE} pixels, {tasks} stream tasks of {examples:,} digits, "
        f"{iterations} steps each, MLP 100-100; accuracy on {tests:,} digits a stream task, the task told",
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
            "kept by": row["kept_by"],
            "register: s, first ten → last ten": f"{row['seconds_first']:.2f} → {row['seconds_last']:.2f}",
            f"ratio, aim {GROWTH}": f"{row['growth']:.2f}",
            "query, ms": f"{row['query_ms_few']:.2f} → {row['query_ms_all']:.2f}",
            f"ratio, aim {ASKED} ": f"{row['query_growth']:.2f}",
            "accuracy, %": f"{100 * row['accuracy_told']:.2f}",
            f"minus direct, aim ± {WITHIN}": "–"
            if reference is None or row["kept_by"] == "analytic"
            else f"{100 * (row['accuracy_told'] - reference):+.2f}",
            "shared, kB": f"{row['shared_bytes'] / 1e3:,.0f}",
            "own, kB a task": f"{row['own_bytes_each'] / 1e3:,.0f}",
        }
        for row in rows
    ]
    return "\n".join(
        [
            "# Registering 100 stream tasks",
            "",
            "`python -m benchmarks.registration`; seconds are of the processor.",
            "",
            f"- {found['protocol']}",
            f"- {found['machine']}",
            "- gram, direct and sampled: how the hypernetwork's regulariser over earlier tasks is computed, direct "
            "being the definition; analytic: closed forms alone",
            f"- query: one, its task not told; the gate, then the {TOP} likeliest networks, weights cached; at {_FEW} "
            "tasks → at all",
            "",
            *table(cells),
            "",
            "![seconds, bytes and accuracy along the stream](registration.png)",
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
