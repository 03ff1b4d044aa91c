"""The command line: serve, database, demo, train, evaluate."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from app.settings import Settings

GRACE_SECONDS = 3
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
) -> None:
    """Start the service. Flags stand over HYPERSERVE_* in the environment, those over .env."""
    given = {"host": host, "port": port, "workers": workers, "data_dir": data_dir}
    for name, value in given.items():
        if value is not None:
            # Through the environment, so that every worker process sees the same.
            os.environ[f"HYPERSERVE_{name.upper()}"] = str(value)
    settings = Settings()
    import uvicorn

    uvicorn.run(
        "app.main:create_app",
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        timeout_graceful_shutdown=GRACE_SECONDS,
        access_log=False,
        server_header=False,
    )


@database.command()
def upgrade() -> None:
    """Bring the database to the revision of this code."""
    from app.db.migrate import upgrade as run

    settings = Settings()
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    run(settings.database)
