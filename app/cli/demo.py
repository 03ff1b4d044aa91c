"""`hyperserve demo`: make a task of the shipped drawings and query it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from app.cli.console import messages, print_table
from app.cli.errors import CommandError
from app.cli.private_server import exit_on_terminate, private_server
from hyperserve import Client, Prediction, Task
from hyperserve.types import Timing

GLYPHS = Path(__file__).resolve().parents[2] / "examples" / "glyphs"
UNKNOWN = 0.5
"""`unknown` at and above which a query is marked as more likely foreign than not."""


@dataclass(frozen=True)
class QueryResult:
    """One query, its answer, and the milliseconds the server took."""

    query: str
    prediction: Prediction
    ms: float

    @property
    def true_label(self) -> str:
        """Return the label in the file's name: `fish` for fish-1."""
        return self.query.rpartition("-")[0]


def demo(
    url: Annotated[
        str | None, typer.Option(help="URL of a running server; if left out, one is started.")
    ] = None,
    learner: Annotated[str, typer.Option(help="Learner to adapt.")] = "glyphs",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Make a task of the shipped drawings, query it and show the answers.

    Answers are shown with their uncertainty.
    """
    exit_on_terminate()
    task, answers = _run(url, learner)
    if as_json:
        typer.echo(json.dumps(_document(task, answers), indent=2))
    else:
        _show(task, answers)


def _run(url: str | None, learner: str) -> tuple[Task, list[QueryResult]]:
    support = {folder.name: sorted(folder.glob("*.png")) for folder in sorted(GLYPHS.glob("support/*"))}
    queries = sorted(GLYPHS.glob("query/*.png"))
    if not support or not queries:
        raise CommandError(
            f"the drawings are missing from {GLYPHS}; run `python examples/draw_glyphs.py` to make them"
        )
    with _progress() as steps, ExitStack() as stack:
        # One step each for the server and the task, then one for each query.
        bar = steps.add_task("starting a server" if url is None else "connecting", total=2 + len(queries))
        client = stack.enter_context(Client(url or stack.enter_context(private_server())))
        steps.update(bar, advance=1, description=f"adapting to {len(support)} classes")
        task = client.tasks.create(support, learner=learner, name="demo")
        stack.callback(task.delete)
        steps.update(bar, advance=1, description="querying")
        answers = []
        for path in queries:
            answer = task.predict([path])
            (found,) = answer.predictions
            assert isinstance(found, Prediction)
            answers.append(QueryResult(path.stem, found, _milliseconds(answer.timing)))
            steps.update(bar, advance=1)
        steps.update(bar, description="done")
    return task, answers


@contextmanager
def _progress() -> Iterator[Progress]:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    quiet = not messages.is_terminal
    with Progress(*columns, console=messages, transient=True, disable=quiet) as progress:
        yield progress


def _milliseconds(timing: Timing) -> float:
    return timing.get("total", sum(timing.values()))


def _document(task: Task, answers: list[QueryResult]) -> dict[str, object]:
    rows = [{"query": row.query, "ms": row.ms, **row.prediction.model_dump(mode="json")} for row in answers]
    return {"task": task.model_dump(mode="json"), "answers": rows}


def _show(task: Task, answers: list[QueryResult]) -> None:
    known = [row for row in answers if row.true_label in task.classes]
    right = sum(row.prediction.label == row.true_label for row in known)
    shots = ", ".join(f"{label} × {count}" for label, count in task.shots.items())
    table = Table(
        title=f"{task.learner} adapted to {shots}",
        caption=f"{right} of {len(known)} right; the other {len(answers) - len(known)} belong to no class of the task",
        box=SIMPLE_HEAD,
        padding=0,  # fits 80 columns
        pad_edge=False,
    )
    for heading in (
        "query",
        "label",
        "confidence",
        "unknown",
        "entropy",
        "epistemic",
        "prediction set",
        "ms",
    ):
        numeric = heading not in ("query", "label", "prediction set")
        table.add_column(heading, justify="right" if numeric else "left", no_wrap=True)
    for row in answers:
        table.add_row(*_cells(row, row.true_label in task.classes))
    print_table(table)


def _cells(row: QueryResult, known: bool) -> list[Text]:
    found = row.prediction
    label = "dim" if not known else "green" if found.label == row.true_label else "red"
    suspect = "yellow" if (found.unknown or 0) >= UNKNOWN else ""
    return [
        Text(row.query),
        Text(found.label, style=label),
        Text(f"{found.confidence:.3f}"),
        Text(_number(found.unknown), style=suspect),
        Text(_number(found.entropy)),
        Text(_number(found.epistemic)),
        Text(_shortened(found.prediction_set)),
        Text(f"{row.ms:.1f}"),
    ]


def _shortened(labels: list[str]) -> str:
    return ", ".join(labels) if len(labels) < 3 else f"{labels[0]} +{len(labels) - 1}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
