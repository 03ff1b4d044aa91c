"""`hyperserve streams`: query, extend and manage the streams of a running server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel
from rich.text import Text

from app.cli.command_options import key_values
from app.cli.console import print_table, simple_table
from app.cli.errors import MisuseError
from app.cli.lazy import SETTINGS, lazy_group
from hyperserve import Client, Stream, StreamPrediction, StreamTask

LAZY_COMMANDS = {"train": ("app.cli.streams_train:train", "Train a stream and write it as a folder to ship.")}
"""The one that needs torch."""

app = typer.Typer(
    cls=lazy_group(LAZY_COMMANDS), no_args_is_help=True, help="Query, extend and manage streams.", **SETTINGS
)

Url = Annotated[
    str | None, typer.Option(help="URL of the server; if left out, HYPERSERVE_URL or http://127.0.0.1:8000.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Name = Annotated[str, typer.Argument(help="Name of the stream.")]
Task = Annotated[str, typer.Argument(help="Name of the stream task.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the job.")]
UNKNOWN = 0.5
"""`unknown` at and above which a query is marked as more likely of no stream task than of one."""


@app.command(name="list")
def list_(url: Url = None, as_json: AsJson = False) -> None:
    """List the streams of the server."""
    with Client(url) as client:
        streams = client.streams.list().all()
    if as_json:
        _print_json(streams)
        return
    table = simple_table("name", "method", "scenario", "input", "#version", "#stream\ntasks", "")
    for one in streams:
        mark = "bundled" if one.bundled else ""
        version = "–" if one.version is None else str(one.version)
        table.add_row(one.name, one.method, one.scenario, _input(one), version, str(one.tasks), mark)
    print_table(table)


@app.command()
def create(
    name: Name,
    source: Annotated[str | None, typer.Option("--from", help="Bundled stream to copy.")] = None,
    scenario: Annotated[str | None, typer.Option(help="cl1, cl2 or cl3.")] = None,
    method: Annotated[str | None, typer.Option(help="hypernetwork or analytic.")] = None,
    hparam: Annotated[list[str] | None, typer.Option(help="Hyperparameter of the method, key=value.")] = None,
    vector: Annotated[int | None, typer.Option(help="Queries are vectors; their length.")] = None,
    image: Annotated[
        int | None, typer.Option(help="Queries are pictures in ink; their side in pixels.")
    ] = None,
    photo: Annotated[int | None, typer.Option(help="Queries are photos; their side in pixels.")] = None,
    learner: Annotated[
        str | None, typer.Option(help="Learner whose frozen encoder computes the features.")
    ] = None,
    url: Url = None,
) -> None:
    """Create a stream, empty or as a copy."""
    given: list[dict[str, Any]] = [
        *([] if vector is None else [{"kind": "vector", "dim": vector}]),
        *([] if image is None else [{"kind": "image", "size": image}]),
        *([] if photo is None else [{"kind": "image", "size": photo, "channels": 3}]),
    ]
    if len(given) > 1:
        raise MisuseError("give only one of --vector, --image and --photo")
    hparams = key_values(hparam) or None
    with Client(url) as client:
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
    classes: Annotated[str | None, typer.Option(help="Classes of the dataset to use, such as a,b,c.")] = None,
    held_out: Annotated[int | None, typer.Option(help="Number of examples kept for measuring.")] = None,
    wait: Wait = True,
    url: Url = None,
) -> None:
    """Register a labelled set as a stream task; its data may be deleted afterwards."""
    chosen = None if classes is None else [label.strip() for label in classes.split(",")]
    source = Path(data) if Path(data).exists() else data
    with Client(url) as client:
        stream = client.streams.get(name)
        found = stream.register(task, source, classes=chosen, held_out=held_out, wait=wait)
    _show_tasks([found])


@app.command()
def tasks(name: Name, url: Url = None, as_json: AsJson = False) -> None:
    """Show the accuracy of each stream task, when registered and now, and its drift."""
    with Client(url) as client:
        found = client.streams.get(name).stream_tasks()
    if as_json:
        _print_json(found)
    else:
        _show_tasks(found)


@app.command()
def predict(
    name: Name,
    files: Annotated[list[Path] | None, typer.Argument(help="Pictures.")] = None,
    vector: Annotated[list[str] | None, typer.Option(help="A query of numbers: 0.1,0.9.")] = None,
    task: Annotated[str | None, typer.Option(help="Stream task; if left out, it is inferred.")] = None,
    version: Annotated[
        int | None, typer.Option(help="Number of the version; if left out, the current one.")
    ] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Query a stream; the stream task of each query is inferred unless it is given."""
    queries: list[Any] = [*(files or []), *map(_numbers, vector or [])]
    shown = [*(path.name for path in files or []), *(vector or [])]
    if not queries:
        raise MisuseError("give pictures or --vector")
    with Client(url) as client:
        answer = client.streams.get(name).predict(queries, task=task, version=version)
    if as_json:
        _print_json(answer)
        return
    table = simple_table("query", "label", "#confidence", "stream task", "#its\nprobability", "#unknown")
    for query, one in zip(shown, answer.predictions, strict=True):
        table.add_row(query, *_cells(one))
    print_table(table)


@app.command()
def versions(name: Name, url: Url = None, as_json: AsJson = False) -> None:
    """List the versions of a stream, newest first."""
    with Client(url) as client:
        found = client.streams.get(name).versions().all()
    if as_json:
        _print_json(found)
        return
    table = simple_table("#number", "origin", "stream task", "holds", "")
    for one in found:
        row = (str(one.number), one.origin, one.task or "", ", ".join(one.tasks))
        table.add_row(*row, "current" if one.current else "")
    print_table(table)


@app.command()
def rollback(
    name: Name, version: Annotated[int, typer.Argument(help="Number of the version.")], url: Url = None
) -> None:
    """Make another version the current one."""
    with Client(url) as client:
        stream = client.streams.get(name).rollback(version)
    typer.echo(f"{stream.name}: version {stream.version} answers, {stream.tasks} stream tasks")


@app.command()
def forget(name: Name, task: Task, wait: Wait = True, url: Url = None) -> None:
    """Delete a stream task and every version that holds it."""
    with Client(url) as client:
        found = client.streams.get(name).forget(task, wait=wait)
    typer.echo(f"{found.name}: {found.state}")


@app.command()
def delete(name: Name, url: Url = None) -> None:
    """Delete a stream and its versions."""
    with Client(url) as client:
        client.streams.delete(name)
    typer.echo(f"{name}: deleted")


def _numbers(row: str) -> list[float]:
    try:
        return [float(number) for number in row.split(",")]
    except ValueError as error:
        raise MisuseError(f"--vector {row!r} is not a list of numbers such as 0.1,0.9") from error


def _show_tasks(found: list[StreamTask]) -> None:
    table = simple_table(
        "stream task",
        "state",
        "labels",
        "#examples",
        "#accuracy\nthen",
        "#accuracy\nnow",
        "#inferred",
        "#drift",
    )
    table.columns[1].no_wrap = True
    for one in found:
        share = (one.accuracy_registered, one.accuracy_now, one.inferred_now)
        drift = "–" if one.drift is None else f"{one.drift:.4f}"
        state = Text("alarm", style="red") if one.alarm else Text(one.state.replace("_", " "))
        table.add_row(
            one.name, state, _shortened(one.labels), str(one.examples), *map(_percent, share), drift
        )
    print_table(table)
    for one in found:
        if one.error is not None:
            typer.echo(f"{one.name}: {one.state}: {one.error['detail']}")


def _cells(one: StreamPrediction) -> list[str | Text]:
    suspect = "yellow" if (one.unknown or 0) >= UNKNOWN else ""
    unknown = Text("–" if one.unknown is None else f"{one.unknown:.3f}", style=suspect)
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


def _print_json(found: BaseModel | list[Any]) -> None:
    plain = found.model_dump(mode="json") if isinstance(found, BaseModel) else [_dumped(one) for one in found]
    typer.echo(json.dumps(plain, indent=2))


def _dumped(one: BaseModel) -> dict[str, Any]:
    return one.model_dump(mode="json")
