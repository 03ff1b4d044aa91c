"""The command line. Each command imports what it needs when it runs."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="hyperserve", no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False
)
database = typer.Typer(no_args_is_help=True, help="The database of tasks.")
app.add_typer(database, name="db")


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    workers: Annotated[int | None, typer.Option(help="Serving processes.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where the database and blobs live.")] = None,
    worker: Annotated[
        bool | None, typer.Option("--worker/--no-worker", help="Run a worker for jobs beside it.")
    ] = None,
) -> None:
    """Start the service. Flags stand over HYPERSERVE_* in the environment, those over .env."""
    _set(host=host, port=port, workers=workers, data_dir=data_dir, worker=worker)
    from logging.config import dictConfig

    from app.cli.errors import checked_settings, one_line
    from app.cli.exit import leave
    from app.core.secret import check_secret
    from app.db.migrate import WAIT_SECONDS, prepare_database
    from app.server import run
    from app.telemetry import logs
    from app.worker_process import worker_beside

    settings = checked_settings()
    dictConfig(logs.config(settings.log_format, settings.log_level))
    with one_line():
        check_secret(settings)
        # Once, before several processes race to do it.
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        prepare_database(settings, WAIT_SECONDS)
    with worker_beside() if settings.worker else nullcontext():
        run(settings)
    leave()


@app.command()
def worker(
    device: Annotated[str | None, typer.Option(help="torch device of its jobs, such as cuda:0.")] = None,
    jobs: Annotated[int | None, typer.Option(help="Jobs that run at a time.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where the database and blobs live.")] = None,
) -> None:
    """Run jobs of the queue, for servers on this or other machines that share its database and blobs."""
    _set(worker_device=device, worker_jobs=jobs, data_dir=data_dir)
    from app.cli.errors import checked_settings

    checked_settings()
    from workers.__main__ import main

    main([])


def _set(**options: object) -> None:
    """Through the environment, so that every process that is started sees the same."""
    given = {name: value for name, value in options.items() if value is not None}
    os.environ.update({f"HYPERSERVE_{name.upper()}": str(value) for name, value in given.items()})


@database.command()
def upgrade() -> None:
    """Bring the database to the revision of this code."""
    from app.cli.errors import checked_settings, one_line
    from app.db import migrate

    settings = checked_settings()
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    with one_line():
        migrate.upgrade(settings.database)


@app.command()
def openapi() -> None:
    """Print the OpenAPI document."""
    import json

    from app.main import create_app

    typer.echo(json.dumps(create_app().openapi(), indent=2, ensure_ascii=False))


_FORWARDED = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def _add_lazily(
    name: str, module: str, summary: str, choose: Callable[[list[str]], str | None] = lambda words: None
) -> None:
    """A command whose function is `name` in `module`; torch alone would take a second to import.

    `choose` may name another module by what follows the command.
    """

    def forward(context: typer.Context) -> None:
        command = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        command.command(help=summary)(getattr(importlib.import_module(choose(context.args) or module), name))
        command(args=context.args, prog_name=f"hyperserve {name}")

    app.command(name, help=summary, context_settings=_FORWARDED)(forward)


def _add_group_lazily(name: str, module: str, summary: str) -> None:
    """Commands under one name: those of `app` in `module`."""

    def forward(context: typer.Context) -> None:
        importlib.import_module(module).app(args=context.args, prog_name=f"hyperserve {name}")

    app.command(name, help=summary, context_settings=_FORWARDED)(forward)


def _on_functions(words: list[str]) -> str | None:
    """Data sets of functions are trained on by a module of their own, with its own options."""
    named = [word for before, word in pairwise(words) if before == "--dataset"]
    named += [word.removeprefix("--dataset=") for word in words if word.startswith("--dataset=")]
    return "app.cli.train_functions" if {"sinusoids", "gp", "completion"} & set(named) else None


def _on_streams(words: list[str]) -> str | None:
    """Continual learning is measured by a module of its own, with its own options."""
    return "app.cli.evaluate_continual" if "continual" in words else None


_add_lazily("demo", "app.cli.demo", "Make a task of the shipped drawings, query it, show the answers.")
_add_lazily("train", "app.cli.train", "Meta-train a learner.", _on_functions)
_add_lazily("methods", "app.cli.methods", "What a learner can be made by.")
_add_lazily("gc", "app.cli.admin", "Delete what has lapsed or finished, and blobs that nothing needs.")
_add_lazily("backup", "app.cli.admin", "Write all that the service holds to a file.")
_add_lazily("restore", "app.cli.admin", "Read a backup into an empty service.")
_add_lazily(
    "evaluate", "app.cli.evaluate", "Measure a learner on tasks of classes it has not seen.", _on_streams
)
_add_group_lazily("streams", "app.cli.streams", "Ask, grow and look after streams.")
