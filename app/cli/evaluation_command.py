"""What the commands of `hyperserve evaluate` share: options, and the report that is printed and written."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, TypeVar

import torch
import typer

from app.cli.command_options import takes_options
from app.cli.errors import MisuseError
from app.cli.zoo import learner_at
from app.core.allocator import keep_freed_memory
from experiments.fewshot.table_rows import EvaluationPlan
from models import artifact
from models.artifact import Artifact
from models.training.card import table, write_card


@dataclass(frozen=True)
class EvaluationOptions:
    """Options of every evaluation."""

    data: Annotated[
        Path | None, typer.Option(help="The data on disk; Omniglot is downloaded if left out.")
    ] = None
    seed: Annotated[int, typer.Option(help="Seed of the random draws.")] = 1000
    out: Annotated[Path | None, typer.Option(help="Write <out>.json and <out>.md.")] = None
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
    threads: Annotated[int, typer.Option(help="torch threads; 0 leaves torch's choice.")] = 0

    @property
    def learners(self) -> list[Artifact]:
        """Return the learners to measure: none if the evaluation trains what it measures."""
        return []

    def required_data(self, description: str) -> Path:
        """Return the path of the data. Raises `MisuseError` if it was not given."""
        if self.data is None:
            raise MisuseError(f"this evaluation needs --data: {description}")
        return self.data


@dataclass(frozen=True)
class LearnerOptions(EvaluationOptions):
    """Options of an evaluation of learners."""

    learner_names: Annotated[
        list[str] | None,
        typer.Option("--learner", help="Name in the zoo or path of a learner; may be given several times."),
    ] = None
    tasks: Annotated[int | None, typer.Option(help="Number of tasks; the protocol's if left out.")] = None
    update_card: Annotated[bool, typer.Option(help="Write the tables into the learner's card.")] = False

    @cached_property
    def learners(self) -> list[Artifact]:
        """Load the learners. Raises `ArtifactError`."""
        return [learner_at(name) for name in self.learner_names or []]

    @property
    def learner(self) -> Artifact:
        """Return the first learner. Raises `MisuseError` if there is none."""
        if not self.learners:
            raise MisuseError("this evaluation needs --learner: a name in the zoo or a path")
        return self.learners[0]

    def plan(self, default: int = EvaluationPlan.tasks) -> EvaluationPlan:
        return EvaluationPlan(tasks=default if self.tasks is None else self.tasks, seed=self.seed)


Options = TypeVar("Options", bound=EvaluationOptions)
Result = dict[str, Any]


def default_page(name: str, result: Result, _options: EvaluationOptions) -> str:
    """Return a result as Markdown: facts as a list, and a table of each list of rows."""
    lines = [f"# {name}", ""]
    for key, value in result.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            lines += ["", f"## {key.replace('_', ' ')}", "", *table(value), ""]
        else:
            lines.append(f"- {key.replace('_', ' ')}: {value}")
    return "\n".join(lines) + "\n"


def evaluation(
    name: str, kind: type[Options], page: Callable[[str, Result, Options], str] = default_page
) -> Callable[[Callable[[Options], Result]], Callable[..., None]]:
    """Turn a function that measures into a command that prints its result and writes it to `--out`."""

    def decorate(measure: Callable[[Options], Result]) -> Callable[..., None]:
        def command(options: Options) -> None:
            keep_freed_memory()
            if options.threads:
                torch.set_num_threads(options.threads)
            names = [f"{one.name} {one.short_digest}" for one in options.learners]
            result = {"learners": names, "device": "cpu", **measure(options)}
            _report(name, result, options, page)

        command.__name__, command.__doc__ = measure.__name__, measure.__doc__
        return takes_options(kind)(command)

    return decorate


def _report(name: str, result: Result, options: Options, page: Callable[[str, Result, Options], str]) -> None:
    text = json.dumps(result, indent=1) + "\n"
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
    shown = page(name, result, options)
    typer.echo(text if options.as_json else shown)
    if options.out is not None:
        options.out.with_suffix(".json").write_text(text, encoding="utf-8")
        options.out.with_suffix(".md").write_text(shown, encoding="utf-8")
    if isinstance(options, LearnerOptions) and options.update_card and options.learners:
        _update_card(options.learner, name, result)


def _update_card(found: Artifact, name: str, result: Result) -> None:
    title = f"{name} {result['data']}" if "data" in result else name
    config = found.config.model_copy(update={"metrics": {**found.config.metrics, title: result}})
    artifact.save(found.path, found.learner, config, write_card(found.name, config))
