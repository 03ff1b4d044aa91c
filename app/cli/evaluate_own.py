"""`hyperserve evaluate own`: any learners on any data set, with baselines and all figures of uncertainty."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from app.cli.command_options import takes_options
from app.cli.console import messages, training_progress
from app.cli.errors import MisuseError
from app.cli.recorded_command import recorded_command
from app.cli.zoo import learner_at
from app.core.allocator import keep_freed_memory
from experiments.fewshot import own_page, own_protocol
from experiments.fewshot.baseline_runs import Runner, runner
from experiments.fewshot.own_features import refusal
from experiments.fewshot.own_protocol import OwnPlan
from models.artifact import Artifact
from models.data.dataset import DatasetError
from models.data.examples import RawExamples, data_sets, open_examples

DEFAULT_LEARNERS = ("glyphs", "characters", "photos", "vectors")


@dataclass(frozen=True)
class OwnOptions:
    """Options of `hyperserve evaluate own`."""

    data: Annotated[
        Path,
        typer.Option(
            help="Folder of class folders, zip, npz or CSV; or a folder of several of them, measured one by one."
        ),
    ]
    learner: Annotated[
        list[str] | None,
        typer.Option(
            help="Name in the zoo or path of a learner; may be given several times. Each data set is measured with "
            f"those that take its inputs. Default: {', '.join(DEFAULT_LEARNERS)}."
        ),
    ] = None
    split: Annotated[str | None, typer.Option(help="Split of an npz.")] = None
    tasks: Annotated[int, typer.Option(min=2, help="Tasks of 5 ways; more ways have fewer.")] = OwnPlan.tasks
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random draws.")] = OwnPlan.seed
    examples: Annotated[
        int,
        typer.Option(min=100, help="Most examples of a data set; of more, so many are drawn by the seed."),
    ] = OwnPlan.most_examples
    write: Annotated[
        Path | None,
        typer.Option(
            help="Folder to write a page and a JSON of each data set to; what it has is not measured again."
        ),
    ] = None
    anew: Annotated[bool, typer.Option(help="Measure again what the folder has.")] = False
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, a line for each data set.")] = False
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes for the baselines; as many as cores if left out.")
    ] = None
    threads: Annotated[int, typer.Option(help="torch threads; 0 leaves torch's choice.")] = 0


@takes_options(OwnOptions)
def own(options: OwnOptions) -> None:
    """Measure on your own data, beside baselines.

    All learners answer the same tasks. A data set of several that cannot be measured is named at the end.
    """
    keep_freed_memory()
    if options.threads:
        torch.set_num_threads(options.threads)
    paths = data_sets(options.data)
    learners = [learner_at(name) for name in dict.fromkeys(options.learner or DEFAULT_LEARNERS)]
    _check_names(learners, "learners", [one.name for one in learners])
    _check_names(paths, "data sets", [_stem(path) for path in paths])
    refused: list[str] = []
    with runner(options.jobs or len(os.sched_getaffinity(0))) as baselines:
        for path in paths:
            try:
                result = _measured(path, learners, options, baselines)
            except (DatasetError, MisuseError) as error:
                if len(paths) == 1:
                    raise
                refused.append(f"{error}")
                continue
            typer.echo(json.dumps(result) if options.as_json else own_page.page(result))
    if refused:
        raise MisuseError("\n".join(["not measured:", *refused]))


def _check_names(things: Sequence[object], what: str, names: Sequence[str]) -> None:
    if len(set(names)) < len(things):
        raise MisuseError(f"two of the {what} have the same name: {', '.join(sorted(names))}")


def _stem(path: Path) -> str:
    return path.resolve().name if path.is_dir() else path.stem


def _measured(
    path: Path, learners: Sequence[Artifact], options: OwnOptions, baselines: Runner
) -> dict[str, Any]:
    """Measure one data set, or read what is written of it. Raises `DatasetError`, `MisuseError`."""
    plan = OwnPlan(options.tasks, options.seed, options.examples)
    with open_examples(path, options.split) as examples:
        taken = _fitting(learners, examples)
        run = {
            "data": examples.source,
            "learners": [f"{one.name} {one.short_digest}" for one in taken],
            "device": "cpu",
            "data_digest": examples.drawn(plan.most_examples, plan.seed).digest[:16],
            "plan": {"tasks": plan.tasks, "seed": plan.seed, "examples": plan.most_examples},
            "versions": f"hyperserve {version('hyperserve')}, scikit-learn {version('scikit-learn')}",
        }
        file = None if options.write is None else options.write / f"{_stem(path)}.json"
        if file is not None and not options.anew and (found := _written(file, run)) is not None:
            messages.print(f"{file}: measured already")
            return found
        with training_progress() as bar:
            line = bar.add_task(_stem(path), total=None, note="reading")

            def show(done: int, total: int, note: str) -> None:
                bar.update(line, completed=done, total=total, note=note)

            measured = own_protocol.evaluate(taken, examples, plan, baselines, show)
    result = {**run, "command": recorded_command("--write", "--jobs", "--threads"), **measured}
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.with_suffix(".md").write_text(own_page.page(result), encoding="utf-8")
        file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


def _fitting(learners: Sequence[Artifact], examples: RawExamples) -> list[Artifact]:
    """Return the learners that take the data set's inputs. Raises `MisuseError` if none does."""
    reasons = {one.name: refusal(one, examples) for one in learners}
    taken = [one for one in learners if reasons[one.name] is None]
    if not taken:
        raise MisuseError("; ".join(reason for reason in reasons.values() if reason is not None))
    return taken


def _written(file: Path, run: dict[str, Any]) -> dict[str, Any] | None:
    """Return what is written of the same run, None if there is nothing."""
    if not file.is_file():
        return None
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return None
    same = isinstance(found, dict) and all(found.get(key) == value for key, value in run.items())
    return found if same else None
