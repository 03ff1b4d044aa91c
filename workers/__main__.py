"""`python -m workers`, or `hyperserve worker`: a worker on the database that the settings name."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import subprocess
import sys
import threading
from logging.config import dictConfig

from app.core.data_folder import make_files_private
from app.core.settings import Settings
from app.db.database import Database
from app.db.errors import DatabaseError
from app.db.migrate import revision
from app.db.tables import REVISION
from app.telemetry import logs
from workers.jobs import kinds
from workers.supervisor import Supervisor

WAIT_SECONDS = 0.5

log = logging.getLogger("hyperserve")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m workers", description=__doc__)
    parser.add_argument("--attached", action="store_true", help="exit when standard input ends")
    attached = parser.parse_args(arguments).attached
    make_files_private()
    settings = Settings()
    dictConfig(logs.config(settings.log_format, settings.log_level))
    _check_device(settings.worker_device)
    asyncio.run(_run(settings, attached))


async def _run(settings: Settings, attached: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if attached:

        def stop_with_parent() -> None:
            while os.read(0, 4096):
                pass
            loop.call_soon_threadsafe(stop.set)

        threading.Thread(target=stop_with_parent, name="parent", daemon=True).start()
    await _wait_for_migration(settings, stop)
    # One connection for the lease of each job, and some for everything else.
    database = Database(settings.database, settings.worker_jobs + 4)
    try:
        if not stop.is_set():
            await Supervisor(database, settings, kinds(settings)).run(stop)
    finally:
        await database.close()


async def _wait_for_migration(settings: Settings, stop: asyncio.Event) -> None:
    """Wait until the server or an administrator has migrated the database."""
    warned = False
    while not stop.is_set():
        try:
            found = await asyncio.to_thread(revision, settings.database)
            if found == REVISION:
                return
            reason = f"it is at revision {found}, not {REVISION}"
        except DatabaseError as error:
            reason = f"{error}"
        if not warned:
            log.warning("waiting for the database: %s", reason)
            warned = True
        await asyncio.sleep(WAIT_SECONDS)


def _check_device(device: str) -> None:
    """Exit if the device cannot be used, rather than fail every job."""
    if device == "cpu":
        return
    # In a process of its own: the supervisor does without torch.
    code = "import sys, torch; torch.empty(1, device=sys.argv[1])"
    found = subprocess.run([sys.executable, "-c", code, device], capture_output=True, text=True, check=False)
    if found.returncode:
        sys.exit(f"the device {device} cannot be used: {found.stderr.strip().splitlines()[-1]}")


if __name__ == "__main__":
    main()
