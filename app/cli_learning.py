"""`hyperserve train` and `hyperserve evaluate`: learning from the command line, with the server's own learners."""

from __future__ import annotations

import json
import shlex
import sys
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from app.memory import keep_freed_memory
from app.settings import REPOSITORY
from models import artifact
from models.artifact import Artifact, ArtifactError
from models.data import files, omniglot, vectors
from models.data.augment import AugmentConfig
from models.data.dataset import DatasetError
from models.evaluation import compare as comparison
from models.evaluation import omniglot as omniglot_protocol
from models.evaluation import vectors as vectors_protocol
from models.protocol import LearnerError
from models.training import own
from models.training import recipe as training
from models.training.card import table, write_card
from models.training.gradient import TrainingDivergedError

console = Console(stderr=True)
OMNIGLOT, SYNTHETIC = "omniglot", "synthetic-vectors"
_SPACES = 12
_LOCAL = ("--data", "--runs")
_LOCAL_WITH_VALUE = tuple(f"{name}=" for name in _LOCAL)
_REFUSALS = (ArtifactError, DatasetError, LearnerError, training.RecipeError, TrainingDivergedError)


class Benchmark(StrEnum):
    omniglot = "omniglot"
    vectors = "vectors"
    compare = "compare"


def train(
    name: Annotated[str, typer.Option(help="Name of the learner, and of the folder of its training.")],
    method: Annotated[str, typer.Option(help="protonet, hyperset or hypershot.")] = "hyperset",
    dataset: Annotated[
        str, typer.Option(help="omniglot, synthetic-vectors, or a path: class folders, a zip, an npz, a CSV.")
    ] = OMNIGLOT,
    data: Annotated[Path | None, typer.Option(help="Omniglot on disk; downloaded when not given.")] = None,
    encoder: Annotated[str, typer.Option(help="conv4 for pictures, identity for vectors.")] = "conv4",
    hparam: Annotated[list[str] | None, typer.Option(help="Hyperparameter of the method, key=value.")] = None,
    min_way: Annotated[int | None, typer.Option(help="5, or what the method takes.")] = None,
    max_way: Annotated[int | None, typer.Option(help="60, or what the method takes.")] = None,
    min_shot: int = 1,
    max_shot: int = 5,
    queries: Annotated[int, typer.Option(help="Known queries per class and task.")] = 5,
    foreign: Annotated[float, typer.Option(help="Share of queries of classes not in the support set.")] = 0.1,
    within_domain: Annotated[float, typer.Option(help="Share of tasks within one alphabet.")] = 0.5,
    examples_per_step: int = 300,
    augmentation: Annotated[float, typer.Option(help="Strength of the changes made to glyphs.")] = 1.0,
    mirrored: Annotated[
        bool, typer.Option(help="Mirror images of training classes are classes too.")
    ] = False,
    init: Annotated[
        str | None, typer.Option(help="Start from this learner: a path, or a name in the zoo.")
    ] = None,
    steps: int = 14_000,
    lr: float = 2e-3,
    ema: Annotated[float, typer.Option(help="Decay of the moving average of weights.")] = 0.998,
    seed: int = 0,
    device: str = "cpu",
    precision: Annotated[str, typer.Option(help="fp32 or bf16.")] = "bf16",
    validate_every: int = 500,
    calibration_tasks: Annotated[int, typer.Option(help="Validation tasks per way and shot.")] = 100,
    threads: Annotated[int, typer.Option(help="torch threads; 0 leaves torch's choice.")] = 0,
    runs: Annotated[Path, typer.Option(help="Where trainings live; one folder each.")] = Path("runs"),
) -> None:
    """Meta-train a learner. Run again after a kill, the training goes on where it was."""
    keep_freed_memory()
    if threads:
        torch.set_num_threads(threads)
    tasks = {"min_shot": min_shot, "max_shot": max_shot, "queries": queries}
    tasks |= {"examples_per_step": examples_per_step}
    hparams = dict(map(_key_value, hparam or []))
    schedule = {"steps": steps, "lr": lr, "ema": ema, "seed": seed, "validate_every": validate_every}
    calibration = {"tasks": calibration_tasks, "set_tasks": 10 * calibration_tasks}
    try:
        given = None if dataset in (OMNIGLOT, SYNTHETIC) else files.load(Path(dataset))
        settings = {} if given is None else own.encoder_hparams(encoder, tuple(given.inputs.shape[1:]))
        tasks |= training.task_ways(method, hparams, encoder, min_way, max_way, settings)
        start = None if init is None else _learner(init)
        chosen = training.Recipe.model_validate(
            {
                "method": method,
                "hparams": hparams,
                "encoder": encoder,
                "encoder_hparams": settings,
                "dataset": f"{dataset}, mirrored" if mirrored else dataset,
                "warm_start": None if start is None else start.digest,
                "episodes": tasks | {"foreign": foreign, "within_domain": within_domain},
                "augmentation": None if encoder == "identity" else AugmentConfig().scaled(augmentation),
                "train": schedule | {"device": device, "precision": precision},
                "calibration": calibration | {"gold_tasks": max(2, calibration_tasks * 6 // 10)},
            }
        )
        if given is None:
            material = _published_data(dataset, data, mirrored)
        else:
            ways = own.ways_of(method, hparams, encoder, settings)
            material = own.training_data(given, encoder, seed, ways, mirrored=mirrored)
        digest = _run(chosen, material, runs / name, _command(sys.argv[1:], start), start)
    except (*_REFUSALS, ValidationError) as error:
        console.print(f"[red]{error}[/red]", highlight=False)
        raise typer.Exit(2) from error
    console.print(f"{runs / name / 'learner'}  {digest[:16]}", highlight=False)


def _run(
    chosen: training.Recipe,
    material: training.TrainingData,
    folder: Path,
    command: str,
    start: Artifact | None,
) -> str:
    """Trains under a progress bar; the digest of what came of it."""
    with _bar() as progress:
        task = progress.add_task("training", total=chosen.train.steps, note="")

        def report(row: dict[str, float]) -> None:
            note = f"loss {row['loss']:.3f}"
            if "score" in row:
                note = f"{note}  validation {100 * row['score']:.2f} %"
                progress.console.print(f"step {int(row['step'])}: {note}")
            progress.update(task, completed=row["step"], note=note)

        learner = None if start is None else start.learner
        return training.train(chosen, material, folder, version("hyperserve"), command, report, learner)


def evaluate(
    benchmark: Annotated[Benchmark, typer.Argument(help="Which protocol.")],
    learner: Annotated[
        list[str], typer.Option(help="Name in the zoo or path of a learner; compare takes pairs, ours first.")
    ],
    data: Annotated[
        Path | None, typer.Option(help="The data on disk; Omniglot is downloaded otherwise.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split of an npz of vectors.")] = None,
    tasks: int = 1000,
    seed: int = 1000,
    out: Annotated[Path | None, typer.Option(help="Write <out>.json and <out>.md.")] = None,
    update_card: Annotated[bool, typer.Option(help="Keep the tables in the learner's card.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    threads: int = 0,
) -> None:
    """Measure a learner on classes it has not seen: protocol, n, 95 % intervals and digests are printed."""
    if threads:
        torch.set_num_threads(threads)
    try:
        artifacts = [_learner(entry) for entry in learner]
        result = _evaluate(benchmark, artifacts, data, split, tasks, seed)
    except _REFUSALS as error:
        console.print(f"[red]{error}[/red]", highlight=False)
        raise typer.Exit(2) from error
    result = {"learners": [f"{a.name} {a.short_digest}" for a in artifacts], "device": "cpu", **result}
    text = json.dumps(result, indent=1) + "\n"
    page = _page(benchmark, result)
    typer.echo(text if as_json else page)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.with_suffix(".json").write_text(text, encoding="utf-8")
        out.with_suffix(".md").write_text(page, encoding="utf-8")
    if update_card:
        _update_card(artifacts[0], benchmark, result)


def _evaluate(
    benchmark: Benchmark,
    artifacts: list[Artifact],
    data: Path | None,
    split: str | None,
    tasks: int,
    seed: int,
) -> dict[str, Any]:
    if benchmark is Benchmark.vectors:
        if data is None:
            raise DatasetError("evaluate vectors needs --data, an npz of embeddings and labels")
        return vectors_protocol.evaluate(artifacts[0].learner, files.load(data, split), tasks, seed)
    test = omniglot.load(data, "test")
    if benchmark is Benchmark.omniglot:
        plan = omniglot_protocol.Plan(tasks=tasks, seed=seed)
        return omniglot_protocol.evaluate(artifacts[0].learner, test, plan)
    if len(artifacts) % 2:
        raise DatasetError("compare takes learners in pairs, ours first, then the baseline")
    pairs = [(a.learner, b.learner) for a, b in zip(artifacts[::2], artifacts[1::2], strict=True)]
    return {
        "protocol": "Omniglot test characters, the same tasks for both; differences are ours − baseline",
        "tasks": tasks,
        "training_seeds": len(pairs),
        "cells": comparison.compare(pairs, test, tasks, seed),
    }


def _published_data(dataset: str, data: Path | None, mirrored: bool) -> training.TrainingData:
    if dataset == SYNTHETIC:
        return training.TrainingData(None, [vectors.space(index) for index in range(_SPACES)])
    fitting = omniglot.load(data, "train").glyphs()
    fitting = fitting.mirrored() if mirrored else fitting
    return training.TrainingData(fitting.rotations(), [omniglot.load(data, "validation")])


def _learner(name: str) -> Artifact:
    zoo = REPOSITORY / "models" / "zoo" / name
    folder = zoo if zoo.is_dir() else Path(name)
    # A training keeps its learner in a folder `learner`; its name is that of the training.
    return artifact.load(folder, folder.resolve().parent.name if folder.name == "learner" else None)


def _update_card(found: Artifact, benchmark: Benchmark, result: dict[str, Any]) -> None:
    title = f"{benchmark.value} {result['data']}" if "data" in result else benchmark.value
    config = found.config.model_copy(update={"metrics": {**found.config.metrics, title: result}})
    artifact.save(found.path, found.learner, config, write_card(found.name, config))


def _page(benchmark: Benchmark, result: dict[str, Any]) -> str:
    lines = [f"# {benchmark.value}", ""]
    for key, value in result.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            lines += ["", f"## {key.replace('_', ' ')}", "", *table(value), ""]
        else:
            lines.append(f"- {key.replace('_', ' ')}: {value}")
    return "\n".join(lines) + "\n"


def _command(words: list[str], start: Artifact | None) -> str:
    """How to make the learner again, from the first; where this machine keeps data and runs is its own affair."""
    kept, skip = [], False
    for word in words:
        if skip or word.startswith(_LOCAL_WITH_VALUE):
            skip = False
        elif word in _LOCAL:
            skip = True
        else:
            kept.append(word)
    command = shlex.join(["hyperserve", *kept])
    return command if start is None else f"{start.config.training.get('command')} && {command}"


def _key_value(pair: str) -> tuple[str, Any]:
    key, _, value = pair.partition("=")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    )
