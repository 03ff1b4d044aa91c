"""`hyperserve streams`: asks and grows the streams of a running server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from app.cli.errors import stop
from app.cli.options import key_value
from hyperserve import Client, HyperserveError, Stream, StreamPrediction, StreamTask

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Ask, grow and look after the streams of a server.",
)
_FORWARDED = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


@app.command(help="Train a stream that ships, as a folder.", context_settings=_FORWARDED)
def train(context: typer.Context) -> None:
    # Only this command needs torch, which takes a second to import.
    from app.cli.streams_train import train

    command = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    command.command()(train)
    command(args=context.args, prog_name="hyperserve streams train")


Url = Annotated[
    str | None, typer.Option(help="A running server; left out, HYPERSERVE_URL or http://127.0.0.1:8000.")
]
As_json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Name = Annotated[str, typer.Argument(help="Name of the stream.")]
Task = Annotated[str, typer.Argument(help="Name of the stream task.")]
Waiting = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the job.")]
UNKNOWN = 0.5
"""From here on a query is shown as more likely of no stream task than of one."""


@app.command(name="list")
def list_(url: Url = None, as_json: As_json = False) -> None:
    """The streams of the server, those that came with it among them."""
    with _connected(url) as client:
        streams = client.streams.list().all()
    if as_json:
        _print(streams)
        return
    table = _table("name", "method", "scenario", "input", "#version", "#stream tasks", "")
    for one in streams:
        mark = "bundled" if one.bundled else ""
        version = "–" if one.version is None else str(one.version)
        table.add_row(one.name, one.method, one.scenario, _input(one), version, str(one.tasks), mark)
    Console().print(table)


@app.command()
def create(
    name: Name,
    source: Annotated[
        str | None, typer.Option("--from", help="A stream that came with the server, to copy.")
    ] = None,
    scenario: Annotated[str | None, typer.Option(help="cl1, cl2 or cl3.")] = None,
    method: Annotated[str | None, typer.Option(help="hypernetwork or analytic.")] = None,
    hparam: Annotated[list[str] | None, typer.Option(help="Hyperparameter of the method, key=value.")] = None,
    vector: Annotated[int | None, typer.Option(help="Queries are vectors of so many numbers.")] = None,
    image: Annotated[int | None, typer.Option(help="Queries are pictures, read at so many pixels.")] = None,
    photo: Annotated[int | None, typer.Option(help="Queries are photos, read at so many pixels.")] = None,
    learner: Annotated[str | None, typer.Option(help="Learner whose frozen encoder makes features.")] = None,
    url: Url = None,
) -> None:
    """Make a stream, without stream tasks or as a copy."""
    given: list[dict[str, Any]] = [
        *([] if vector is None else [{"kind": "vector", "dim": vector}]),
        *([] if image is None else [{"kind": "image", "size": image}]),
        *([] if photo is None else [{"kind": "image", "size": photo, "channels": 3}]),
    ]
    if len(given) > 1:
        raise typer.BadParameter("queries are of one kind: vector, image or photo")
    hparams = dict(map(key_value, hparam or [])) or None
    with _connected(url) as client:
        made = client.streams.create(
            name,
            source=source,
            scenario=scenario,  # type: ignore[arg-type]
            method=method,
            hparams=hparams,
            input=given[0] if given else None,
            learner=learner,
        )
    typer.echo(f"{made.name}: {made.method}, {made.scenario}, {_input(made)}, {made.tasks} stream tasks")


@app.command()
def register(
    name: Name,
    task: Task,
    data: Annotated[str, typer.Argument(help="Id of a dataset, or a zip, npz, csv or folder to upload.")],
    classes: Annotated[str | None, typer.Option(help="Of a dataset, those to take: a,b,c.")] = None,
    held_out: Annotated[int | None, typer.Option(help="Examples to keep, to measure on.")] = None,
    wait: Waiting = True,
    url: Url = None,
) -> None:
    """Register a labelled set into a stream, once; its data may be deleted afterwards."""
    chosen = None if classes is None else [label.strip() for label in classes.split(",")]
    source = Path(data) if Path(data).exists() else data
    with _connected(url) as client:
        stream = client.streams.get(name)
        found = stream.register(task, source, classes=chosen, held_out=held_out, wait=wait)
    _show_tasks([found])


@app.command()
def tasks(name: Name, url: Url = None, as_json: As_json = False) -> None:
    """How well each stream task is answered, then and now, and how far it has drifted."""
    with _connected(url) as client:
        found = client.streams.get(name).stream_tasks()
    if as_json:
        _print(found)
    else:
        _show_tasks(found)


@app.command()
def predict(
    name: Name,
    files: Annotated[list[Path] | None, typer.Argument(help="Pictures.")] = None,
    vector: Annotated[list[str] | None, typer.Option(help="A query of numbers: 0.1,0.9.")] = None,
    task: Annotated[str | None, typer.Option(help="Stream task; left out, it is inferred.")] = None,
    version: Annotated[int | None, typer.Option(help="Left out, the current one.")] = None,
    url: Url = None,
    as_json: As_json = False,
) -> None:
    """Ask a stream; the stream task of each query is inferred unless it is named."""
    queries: list[Any] = [*(files or []), *([float(x) for x in row.split(",")] for row in vector or [])]
    shown = [*(path.name for path in files or []), *(vector or [])]
    if not queries:
        raise typer.BadParameter("give pictures, or --vector")
    with _connected(url) as client:
        answer = client.streams.get(name).predict(queries, task=task, version=version)
    if as_json:
        _print(answer)
        return
    table = _table("query", "label", "#confidence", "stream task", "#its probability", "#unknown")
    for query, one in zip(shown, answer.predictions, strict=True):
        table.add_row(query, *_cells(one))
    Console().print(table)


@app.command()
def versions(name: Name, url: Url = None, as_json: As_json = False) -> None:
    """Every state the stream has had, newest first."""
    with _connected(url) as client:
        found = client.streams.get(name).versions().all()
    if as_json:
        _print(found)
        return
    table = _table("#number", "origin", "stream task", "holds", "")
    for one in found:
        row = (str(one.number), one.origin, one.task or "", ", ".join(one.tasks))
        table.add_row(*row, "current" if one.current else "")
    Console().print(table)


@app.command()
def rollback(
    name: Name, version: Annotated[int, typer.Argument(help="Number of the version.")], url: Url = None
) -> None:
    """Let another version answer."""
    with _connected(url) as client:
        stream = client.streams.get(name).rollback(version)
    typer.echo(f"{stream.name}: version {stream.version} answers, {stream.tasks} stream tasks")


@app.command()
def forget(name: Name, task: Task, wait: Waiting = True, url: Url = None) -> None:
    """Take a stream task out for good, with every version that holds it."""
    with _connected(url) as client:
        found = client.streams.get(name).forget(task, wait=wait)
    typer.echo(f"{found.name}: {found.state}")


@app.command()
def delete(name: Name, url: Url = None) -> None:
    """Delete a stream, its versions and whatever they have learned."""
    with _connected(url) as client:
        client.streams.delete(name)
    typer.echo(f"{name}: deleted")


@contextmanager
def _connected(url: str | None) -> Iterator[Client]:
    """Ends the command with one line where the server refuses, or is not there."""
    try:
        with Client(url) as client:
            yield client
    except (HyperserveError, ValueError) as error:
        stop(f"{error}")


def _table(*headings: str) -> Table:
    """A `#` before a heading puts its column to the right."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        table.add_column(heading.removeprefix("#"), justify="right" if heading[:1] == "#" else "left")
    return table


def _show_tasks(found: list[StreamTask]) -> None:
    table = _table(
        "stream task", "state", "labels", "#examples", "#registered", "#now", "#inferred", "#drift", ""
    )
    for one in found:
        share = (one.accuracy_registered, one.accuracy_now, one.inferred_now)
        drift = "–" if one.drift is None else f"{one.drift:.4f}"
        state = one.state if one.error is None else f"{one.state}: {one.error['detail']}"
        row = (one.name, state, _shortened(one.labels), str(one.examples), *map(_percent, share), drift)
        table.add_row(*row, "[red]alarm[/red]" if one.alarm else "")
    Console().print(table)


def _cells(one: StreamPrediction) -> list[str]:
    unknown = "–" if one.unknown is None else f"{one.unknown:.3f}"
    if (one.unknown or 0) >= UNKNOWN:
        unknown = f"[yellow]{unknown}[/yellow]"
    probability = "–" if one.task_probability is None else f"{one.task_probability:.3f}"
    return [one.label, f"{one.confidence:.3f}", one.task, probability, unknown]


def _input(stream: Stream) -> str:
    size = stream.input.get("dim") or stream.input.get("size")
    kind = "photo" if stream.input.get("channels") == 3 else stream.input["kind"]
    return f"{kind} {size}" if stream.encoder is None else f"{kind}, by {stream.encoder}"


def _shortened(labels: list[str]) -> str:
    return ", ".join(labels) if len(labels) < 5 else f"{', '.join(labels[:3])} +{len(labels) - 3}"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def _print(found: BaseModel | list[Any]) -> None:
    plain = found.model_dump(mode="json") if isinstance(found, BaseModel) else [_dumped(one) for one in found]
    typer.echo(json.dumps(plain, indent=2))


def _dumped(one: BaseModel) -> dict[str, Any]:
    return one.model_dump(mode="json")
