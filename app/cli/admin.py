"""`hyperserve gc`, `backup` and `restore`: for the operator of a service; a server may run meanwhile."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.table import Table

from app.cli.console import print_table
from app.cli.errors import CommandError, MisuseError, checked_settings, leave
from app.core.data_folder import make_files_private, open_data_folder, printable
from app.core.settings import Settings
from app.db.blob_collector import BlobCollector
from app.db.blobs import Blobs
from app.db.database import Database
from app.db.migrate import database_file, prepare_database, revision
from app.db.tables import REVISION
from app.maintenance.backup_format import Manifest
from app.maintenance.backup_reader import restore as read_backup
from app.maintenance.backup_writer import backup as write_backup
from app.maintenance.cleanup import Cleanup, CleanupReport

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def gc(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Delete nothing; print what would be deleted.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Delete what has expired or finished, and blobs that nothing needs."""

    async def collect(settings: Settings) -> CleanupReport:
        async with _opened(settings) as (database, blobs):
            return await Cleanup(database, BlobCollector(database, blobs), settings).collect(dry_run=dry_run)

    report = asyncio.run(collect(_settings_of_service()))
    _print_counts("would be deleted" if dry_run else "deleted", asdict(report), as_json=as_json)


def backup(
    file: Annotated[Path, typer.Argument(help="Tar file to write; it must not exist.")],
    as_json: AsJson = False,
) -> None:
    """Write everything that the service holds to a file.

    Tasks, datasets, learners, streams and jobs are written as they are at one moment.
    """

    async def write(settings: Settings) -> Manifest:
        async with _opened(settings) as (database, blobs):
            return await write_backup(database, blobs, file)

    _print_manifest("written", asyncio.run(write(_settings_of_service())), as_json=as_json)


def restore(
    file: Annotated[Path, typer.Argument(help="Tar file that `hyperserve backup` wrote.")],
    as_json: AsJson = False,
) -> None:
    """Read a backup into an empty service.

    The database and the store of blobs may be of another kind than those of the backup.
    """

    async def read(settings: Settings) -> Manifest:
        async with _opened(settings) as (database, blobs):
            return await read_backup(database, blobs, file)

    if not file.is_file():
        raise MisuseError(f"{file} does not exist or is not a file")
    make_files_private()
    settings = checked_settings()
    open_data_folder(settings.data_dir)
    prepare_database(settings)
    _print_manifest("restored", asyncio.run(read(settings)), as_json=as_json)


def _settings_of_service() -> Settings:
    """Return the settings. Raises `CommandError` if the database is missing or at another revision."""
    make_files_private()
    settings = checked_settings()
    # Connecting would create an empty one.
    file = database_file(settings.database)
    if file is not None and not file.exists():
        raise CommandError(f"there is no database at {printable(file)}")
    found = revision(settings.database)
    if found != REVISION:
        raise CommandError(
            f"the database is at revision {found}, this code needs {REVISION}: run `hyperserve db upgrade`"
        )
    return settings


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[tuple[Database, Blobs]]:
    # Statements over whole tables take as long as they need.
    database = Database(settings.database, patient=True)
    try:
        yield database, Blobs.at(settings.blob_url, settings.data_dir)
    finally:
        await database.close()


def _print_manifest(done: str, manifest: Manifest, *, as_json: bool) -> NoReturn:
    counts = manifest.rows | {"blobs": manifest.blobs, "bytes of blobs": manifest.size}
    _print_counts(done, counts, as_json=as_json)


def _print_counts(title: str, counts: dict[str, int], *, as_json: bool) -> NoReturn:
    if as_json:
        typer.echo(json.dumps(counts))
        leave()
    table = Table("", title)
    for name, count in counts.items():
        table.add_row(name.replace("_", " "), f"{count:,}")
    print_table(table)
    leave()
