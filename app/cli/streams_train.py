"""`hyperserve streams train`: a stream of published stream tasks, as a folder that every server can serve.

Pictures go through the decoder that serves them, so that the stream learns from what it will be given.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, get_args

import torch
import typer
from jaxtyping import Float
from rich.table import Table
from torch import Tensor

from app.cli.command_options import key_values, takes_options
from app.cli.console import messages
from app.cli.errors import MisuseError
from app.cli.recorded_command import recorded_command
from app.core.allocator import keep_freed_memory
from app.core.settings import REPOSITORY
from app.streams.mixture import TaskPredictive, candidate_tasks, mixture_predictions
from experiments.continual.task_streams import TaskStream, split_mnist
from models.continual import bundle
from models.continual.bundle import TaskFigures
from models.continual.stream_config import Scenario, StreamConfig, build
from models.data import mnist
from models.inputs import ImageInput
from models.inputs.ink import ink
from models.predictive import Categorical
from models.registry import STREAMS
from models.stream_protocol import ProgressCallback, StreamLearner, StreamVersion

SCENARIOS: tuple[Scenario, ...] = get_args(Scenario)
_BATCH = 500
_BYTE = 255


@dataclass(frozen=True)
class StreamTrainOptions:
    """Options of `hyperserve streams train`."""

    data: Annotated[Path, typer.Option(help="MNIST as an npz.")]
    name: Annotated[str, typer.Option(help="Name of the stream, and of its folder.")] = "digits"
    benchmark: Annotated[str, typer.Option(help="split-mnist.")] = "split-mnist"
    scenario: Annotated[str, typer.Option(help=f"{', '.join(SCENARIOS)}.")] = "cl3"
    method: Annotated[str, typer.Option(help=f"{', '.join(sorted(STREAMS))}.")] = "hypernetwork"
    hparam: Annotated[list[str] | None, typer.Option(help="Hyperparameter of the method, key=value.")] = None
    crop: Annotated[bool, typer.Option(help="Cut digits out of their paper, wherever they stand.")] = True
    examples: Annotated[
        int | None, typer.Option(min=2, help="Most examples of a stream task; all if left out.")
    ] = None
    seed: Annotated[int, typer.Option(help="Seed of all random draws.")] = 0
    threads: Annotated[int, typer.Option(help="torch threads.")] = 1
    folder: Annotated[Path, typer.Option(help="Folder in which the stream's folder is written.")] = (
        REPOSITORY / "models" / "streams"
    )


@dataclass(frozen=True)
class StreamScores:
    """Scores of a stream on test examples, after its last stream task."""

    tasks: dict[str, TaskFigures]
    accuracy: float
    """Share of right labels with the stream task inferred for each query, as the service answers."""


@takes_options(StreamTrainOptions)
def train(options: StreamTrainOptions) -> None:
    """Train a stream and write it as a folder to ship.

    The stream tasks of a benchmark are registered one after the other.
    """
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    if options.benchmark != "split-mnist":
        raise MisuseError(f"{options.benchmark!r} is no benchmark of streams; there is split-mnist")
    if options.scenario not in SCENARIOS:
        raise MisuseError(f"{options.scenario!r} is not one of {', '.join(SCENARIOS)}")
    stream = split_mnist(_decoded(mnist.load(options.data), crop=options.crop))
    _, hparams = STREAMS.configured(options.method, key_values(options.hparam))
    config = StreamConfig(
        method=options.method,
        scenario=options.scenario,
        hparams=hparams.model_dump(mode="json"),
        input=ImageInput(crop=options.crop),
        shape=(1, *stream.shape),
        seed=options.seed,
    )
    learner = build(config)
    version, registered, seconds = _registered(learner, stream, config, options.examples)
    scores = _scored(learner, version, stream, config, registered)
    command = recorded_command("--data", "--folder")
    made = bundle.save(
        options.folder / options.name,
        config,
        version,
        _card(options.name, config, scores, seconds, command),
        tasks=scores.tasks,
        metrics={"accuracy": scores.accuracy, "test": stream.name},
        training={"command": command, "seed": options.seed, "seconds": round(sum(seconds), 1)},
    )
    _show(scores)
    messages.print(f"{made.path} · {made.description.digest[:16]}", style="green")


def _decoded(digits: mnist.Digits, *, crop: bool) -> mnist.Digits:
    """Return the digits as `ImageInput` decodes them."""

    def decode(x: Float[Tensor, "n 28 28"]) -> Tensor:
        parts = [ink((part * _BYTE).round().byte()[..., None], crop=crop)[:, 0] for part in x.split(_BATCH)]
        return torch.cat(parts)

    return replace(digits, train_x=decode(digits.train_x), test_x=decode(digits.test_x))


def _registered(
    learner: StreamLearner, stream: TaskStream, config: StreamConfig, examples: int | None
) -> tuple[StreamVersion, dict[str, TaskFigures], list[float]]:
    """Return the last version, the scores of each stream task just after its registration, and the seconds it took."""
    version: StreamVersion | None = None
    figures: dict[str, TaskFigures] = {}
    seconds = []
    for index in range(stream.tasks):
        labels = stream.labels(index, config.scenario)
        task = "-".join(stream.labels(index, "cl3"))
        x, y = stream.train(index)
        x, y = x[:examples, None], y[:examples]
        began = time.perf_counter()
        version = learner.register(version, task, labels, x, y, _progress(task))
        seconds.append(time.perf_counter() - began)
        test_x, test_y = stream.test(index)
        accuracy = _accuracy(learner, version, task, learner.embed(test_x[:, None]), test_y)
        figures[task] = TaskFigures(examples=len(y), held_out=len(test_y), accuracy_registered=accuracy)
        messages.print(f"{task}: {accuracy:.4f} after {seconds[-1]:.1f} s")
    assert version is not None
    return version, figures, seconds


def _progress(task: str) -> ProgressCallback:
    def report(progress: Any) -> None:
        if progress.get("step", 0) % 500 == 0:
            messages.print(f"{task}: {dict(progress)}", style="dim")

    return report


def _accuracy(
    learner: StreamLearner, version: StreamVersion, task: str, features: Tensor, y: Tensor
) -> float:
    weights = learner.weights(version, task)
    with torch.no_grad():
        answers = [learner.predict(weights, part[None]) for part in features.split(_BATCH)]
    hits = torch.cat([one.log_probs[0].argmax(-1) for one in answers if isinstance(one, Categorical)]) == y
    return float(hits.double().mean())


def _scored(
    learner: StreamLearner,
    version: StreamVersion,
    stream: TaskStream,
    config: StreamConfig,
    registered: dict[str, TaskFigures],
) -> StreamScores:
    drift, found, right, total = learner.drift(version), {}, 0, 0
    for index, task in enumerate(version.tasks):
        x, y = stream.test(index)
        features = learner.embed(x[:, None])
        tasks, labels = _inferred(learner, version, config.scenario, features)
        hits = [
            label == version.labels[task][target] for label, target in zip(labels, y.tolist(), strict=True)
        ]
        right, total = right + sum(hits), total + len(hits)
        found[task] = registered[task].model_copy(
            update={
                "accuracy_now": _accuracy(learner, version, task, features, y),
                "inferred_now": sum(one == task for one in tasks) / len(tasks),
                "drift": float(drift[task]),
            }
        )
    return StreamScores(found, right / total)


def _inferred(
    learner: StreamLearner, version: StreamVersion, scenario: Scenario, features: Tensor
) -> tuple[list[str], list[str]]:
    """Return the stream task and the label of each query, as the service answers them."""
    gate, names = learner.gate(version), list(version.tasks)
    networks = [learner.weights(version, name) for name in names]
    tasks, labels = [], []
    for part in features.split(_BATCH):
        with torch.no_grad():
            posterior = learner.posterior(gate, part[None])
            candidates = candidate_tasks(posterior, scenario)
            components = {}
            for index in torch.unique(candidates).tolist():
                rows = (candidates == index).any(-1).nonzero()[:, 0]
                answer = learner.predict(networks[index], part[rows][None])
                assert isinstance(answer, Categorical)
                components[index] = TaskPredictive(rows, answer.log_probs[0])
        every = list(version.labels.values())
        for one in mixture_predictions(
            posterior, candidates, components, every, scenario, names, coverage=0.9, top=1
        ):
            tasks.append(one.task)
            labels.append(one.label)
    return tasks, labels


def _card(name: str, config: StreamConfig, scores: StreamScores, seconds: list[float], command: str) -> str:
    rows = [
        f"| {task} | {one.examples:,} | {_percent(one.accuracy_registered)} | {_percent(one.accuracy_now)} "
        f"| {_percent(one.inferred_now)} | {one.drift or 0:.4f} |"
        for task, one in scores.tasks.items()
    ]
    return f"""# {name}

Handwritten digits, registered two at a time into one {config.method} stream ({config.scenario}); no example of an
earlier stream task was seen again. Pictures of any size and polarity; {_framing(config)}

With the stream task inferred for each query, {_percent(scores.accuracy)} % of MNIST's test digits are answered
rightly.

| stream task | examples | % right when registered | % right now | % of tasks inferred rightly | drift |
| --- | ---: | ---: | ---: | ---: | ---: |
{chr(10).join(rows)}

Accuracies are for queries that name their stream task. Registering took {sum(seconds):.0f} s in all.

Made by `{command}`. Seed {config.seed}, one seed only. Test digits chose nothing.

Not meant for: digits in running text, several digits in one picture, photographs of paper with shadows. What is no
digit at all is answered too; `unknown` says how little it is like any.
"""


def _framing(config: StreamConfig) -> str:
    cropped = isinstance(config.input, ImageInput) and config.input.crop
    return "digits are cut out of their paper." if cropped else "digits stand centred, as in MNIST."


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.2f}"


def _show(scores: StreamScores) -> None:
    table = Table(title=f"{_percent(scores.accuracy)} % right with stream tasks inferred")
    for heading in ("stream task", "examples", "registered", "now", "inferred", "drift"):
        table.add_column(heading, justify="left" if heading == "stream task" else "right")
    for task, one in scores.tasks.items():
        numbers = map(_percent, (one.accuracy_registered, one.accuracy_now, one.inferred_now))
        table.add_row(task, str(one.examples), *numbers, f"{one.drift or 0:.4f}")
    messages.print(table, soft_wrap=False)
