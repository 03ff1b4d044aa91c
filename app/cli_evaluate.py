"""`hyperserve evaluate`: what a learner makes of classes it has not seen, by a protocol with a name."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from app.cli_train import REFUSALS, console, learner_at
from models import artifact
from models.artifact import Artifact
from models.data import emnist, files, omniglot
from models.data.dataset import DatasetError
from models.evaluation import compare as comparison
from models.evaluation import emnist as emnist_protocol
from models.evaluation import omniglot as omniglot_protocol
from models.evaluation import vectors as vectors_protocol
from models.evaluation.tables import Plan
from models.training.card import table, write_card


class Benchmark(StrEnum):
    omniglot = "omniglot"
    omniglot_emnist = "omniglot-emnist"
    vectors = "vectors"
    compare = "compare"


def evaluate(
    benchmark: Annotated[Benchmark, typer.Argument(help="Which protocol.")],
    learner: Annotated[
        list[str], typer.Option(help="Name in the zoo or path of a learner; compare takes pairs, ours first.")
    ],
    data: Annotated[
        Path | None, typer.Option(help="The data on disk; Omniglot is downloaded otherwise.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split of an npz of vectors.")] = None,
    tasks: Annotated[int | None, typer.Option(help="600 a seed for omniglot-emnist, else 1,000.")] = None,
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
        artifacts = [learner_at(entry) for entry in learner]
        result = _evaluate(benchmark, artifacts, data, split, _plan(benchmark, tasks, seed))
    except REFUSALS as error:
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
    plan: Plan,
) -> dict[str, Any]:
    if benchmark is Benchmark.vectors:
        if data is None:
            raise DatasetError("evaluate vectors needs --data, an npz of embeddings and labels")
        return vectors_protocol.evaluate(artifacts[0].learner, files.load(data, split), plan.tasks, plan.seed)
    if benchmark is Benchmark.omniglot_emnist:
        if data is None:
            raise DatasetError("evaluate omniglot-emnist needs --data, EMNIST as an npz")
        config = artifacts[0].config
        characters = emnist.load(data, "test")
        return emnist_protocol.evaluate(
            artifacts[0].learner, config.input, config.training_classes, characters, plan
        )
    test = omniglot.load(data, "test")
    if benchmark is Benchmark.omniglot:
        return omniglot_protocol.evaluate(artifacts[0].learner, artifacts[0].config.input, test, plan)
    if len(artifacts) % 2:
        raise DatasetError("compare takes learners in pairs, ours first, then the baseline")
    pairs = [(a.learner, b.learner) for a, b in zip(artifacts[::2], artifacts[1::2], strict=True)]
    return {
        "protocol": "Omniglot test characters, the same tasks for both; differences are ours − baseline",
        "tasks": plan.tasks,
        "training_seeds": len(pairs),
        "cells": comparison.compare(pairs, test, plan.tasks, plan.seed),
    }


def _plan(benchmark: Benchmark, tasks: int | None, seed: int) -> Plan:
    usual = emnist_protocol.TASKS if benchmark is Benchmark.omniglot_emnist else Plan.tasks
    return Plan(tasks=usual if tasks is None else tasks, seed=seed)


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
