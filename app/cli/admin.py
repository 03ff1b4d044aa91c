"""`hyperserve gc`, `backup` and `restore`: for whoever operates the service. A server may run meanwhile."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table
from sqlalchemy import make_url

from app.cli.errors import checked_settings, one_line, stop
from app.cli.exit import leave
from app.core.settings import Settings
from app.db.blobs import STORE_ERRORS, Blobs
from app.db.engine import Database
from app.db.migrate import prepare_database, revision
from app.db.tables import REVISION
from app.maintenance.archive import BackupError, Manifest
from app.maintenance.backup import backup as write_backup
from app.maintenance.collection import Maintenance, Report
from app.maintenance.restore import restore as read_backup
from app.tasks.garbage import Collector

As_json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Delete nothing; say what would go.")] = False,
    as_json: As_json = False,
) -> None:
    """Delete what has lapsed or finished, and blobs that nothing needs."""

    async def work(settings: Settings) -> Report:
        async with _opened(settings) as (database, blobs):
            maintenance = Maintenance(database, blobs, Collector(database, blobs), settings)
            return await maintenance.collect(dry_run=dry_run)

    settings = _current()
    title = "would be deleted" if dry_run else "deleted"
    with _one_line():
        report = asyncio.run(work(settings))
    _end(title, asdict(report), as_json=as_json)


def backup(
    file: Annotated[Path, typer.Argument(help="Tar file to write; it must not exist.")],
    as_json: As_json = False,
) -> None:
    """Write all tasks, datasets, learners and jobs, as they are at one moment, to a file."""

    async def work(settings: Settings) -> Manifest:
        async with _opened(settings) as (database, blobs):
            return await write_backup(database, blobs, file)

    _report("written", lambda: asyncio.run(work(_current())), as_json=as_json)


def restore(
    file: Annotated[Path, typer.Argument(help="Tar file that `hyperserve backup` wrote.")],
    as_json: As_json = False,
) -> None:
    """Read a backup into an empty service, on whatever database it has."""

    async def work(settings: Settings) -> Manifest:
        async with _opened(settings) as (database, blobs):
            return await read_backup(database, blobs, file)

    settings = checked_settings()
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    with one_line():
        prepare_database(settings)
    _report("restored", lambda: asyncio.run(work(settings)), as_json=as_json)


def _current() -> Settings:
    settings = checked_settings()
    if settings.uses_sqlite and not _exists(settings):
        stop(f"there is no database at {settings.database}")
    with one_line():
        found = revision(settings.database)
    if found != REVISION:
        stop(f"the database is at revision {found}, this code needs {REVISION}: run `hyperserve db upgrade`")
    return settings


def _exists(settings: Settings) -> bool:
    # Connecting would make an empty one.
    path = make_url(settings.database).database
    return path is not None and Path(path).exists()


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[tuple[Database, Blobs]]:
    database = Database(settings.database)
    try:
        yield database, Blobs.at(settings.blob_url, settings.data_dir)
    finally:
        await database.close()


def _report(done: str, work: Callable[[], Manifest], *, as_json: bool) -> NoReturn:
    with _one_line():
        manifest = work()
    counts = manifest.rows | {"blobs": manifest.blobs, "bytes of blobs": manifest.size}
    _end(done, counts, as_json=as_json)


@contextmanager
def _one_line() -> Iterator[None]:
    """Also for what is wrong with a backup, a disk or a store."""
    try:
        with one_line():
            yield
    except (BackupError, *STORE_ERRORS) as error:
        stop(f"{error}")


def _end(title: str, counts: dict[str, int], *, as_json: bool) -> NoReturn:
    if as_json:
        typer.echo(json.dumps(counts))
        leave()
    table = Table("", title)
    for name, count in counts.items():
        table.add_row(name.replace("_", " "), f"{count:,}")
    Console().print(table)
    leave()
