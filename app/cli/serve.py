"""`hyperserve serve`, `worker` and `db`: the processes of the service, and the database that they need."""

from __future__ import annotations

import os
from contextlib import nullcontext
from logging.config import dictConfig
from pathlib import Path
from typing import Annotated

import typer

from app.cli.errors import checked_settings, leave
from app.cli.lazy import SETTINGS
from app.core.data_folder import make_files_private, open_data_folder
from app.core.secret import check_secret
from app.db.migrate import WAIT_SECONDS, prepare_database
from app.db.migrate import upgrade as upgrade_database
from app.telemetry import logs

DataDir = Annotated[Path | None, typer.Option(help="Folder of the database and blobs.")]


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    workers: Annotated[int | None, typer.Option(help="Number of serving processes.")] = None,
    data_dir: DataDir = None,
    worker: Annotated[
        bool | None, typer.Option("--worker/--no-worker", help="Run a worker for jobs beside the server.")
    ] = None,
) -> None:
    """Start the service.

    Options take precedence over HYPERSERVE_* environment variables, and those over the file `.env`.
    """
    _set_environment(host=host, port=port, workers=workers, data_dir=data_dir, worker=worker)
    # Imported here: `hyperserve worker` does without the server.
    from app.server import run
    from app.worker_process import worker_beside

    make_files_private()
    settings = checked_settings()
    dictConfig(logs.config(settings.log_format, settings.log_level))
    check_secret(settings)
    # Once, before several processes race to do it.
    open_data_folder(settings.data_dir)
    prepare_database(settings, WAIT_SECONDS)
    with worker_beside() if settings.worker else nullcontext():
        run(settings)
    leave()


def worker(
    device: Annotated[str | None, typer.Option(help="torch device of its jobs, such as cuda:0.")] = None,
    jobs: Annotated[int | None, typer.Option(help="Number of jobs that run at a time.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Run jobs of the queue.

    The worker serves all servers, on this or other machines, that share its database and blobs.
    """
    _set_environment(worker_device=device, worker_jobs=jobs, data_dir=data_dir)
    checked_settings()
    from workers.__main__ import main

    main([])


database = typer.Typer(no_args_is_help=True, help="Look after the database.", **SETTINGS)


@database.callback()
def _database() -> None:
    """Keep `upgrade` a subcommand: typer makes a command of a group of one."""


@database.command()
def upgrade() -> None:
    """Bring the database to the revision of this code."""
    make_files_private()
    settings = checked_settings()
    open_data_folder(settings.data_dir)
    upgrade_database(settings.database)


def _set_environment(**options: object) -> None:
    """Set variables for the options that were given, so that every process that is started sees them."""
    given = {name: value for name, value in options.items() if value is not None}
    os.environ.update({f"HYPERSERVE_{name.upper()}": str(value) for name, value in given.items()})
