"""`python -m workers`: a worker over the database that the settings name. `hyperserve worker` is the same."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import subprocess
import sys
import threading

from sqlalchemy.exc import SQLAlchemyError

from app.core.settings import Settings
from app.db.engine import Database
from app.db.migrate import revision
from app.db.tables import REVISION
from workers.jobs import kinds
from workers.logs import configure
from workers.supervisor import Supervisor

WAIT_SECONDS = 0.5

log = logging.getLogger("hyperserve")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m workers", description=__doc__)
    parser.add_argument("--attached", action="store_true", help="end when standard input does")
    attached = parser.parse_args(arguments).attached
    settings = Settings()
    configure(settings)
    _check_device(settings.worker_device)
    asyncio.run(_run(settings, attached))


async def _run(settings: Settings, attached: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if attached:

        def follow() -> None:
            while os.read(0, 4096):
                pass
            loop.call_soon_threadsafe(stop.set)

        threading.Thread(target=follow, name="parent", daemon=True).start()
    await _until_migrated(settings, stop)
    # One connection for each job's renewals, and some for the rest.
    database = Database(settings.database, settings.worker_jobs + 4)
    try:
        if not stop.is_set():
            await Supervisor(database, settings, kinds(settings)).run(stop)
    finally:
        await database.close()


async def _until_migrated(settings: Settings, stop: asyncio.Event) -> None:
    """The server or an administrator brings the database to its revision; a worker waits for it."""
    told = False
    while not stop.is_set():
        try:
            found = await asyncio.to_thread(revision, settings.database)
            if found == REVISION:
                return
            reason = f"it is at revision {found}, not {REVISION}"
        except SQLAlchemyError as error:
            reason = f"{getattr(error, 'orig', error)}"
        if not told:
            log.warning("waiting for the database: %s", reason)
            told = True
        await asyncio.sleep(WAIT_SECONDS)


def _check_device(device: str) -> None:
    """Ends the worker where its device is not there, before every job fails for it."""
    if device == "cpu":
        return
    # In a process that ends: the supervisor itself does without torch.
    code = "import sys, torch; torch.empty(1, device=sys.argv[1])"
    found = subprocess.run([sys.executable, "-c", code, device], capture_output=True, text=True, check=False)
    if found.returncode:
        sys.exit(f"the device {device} cannot be used: {found.stderr.strip().splitlines()[-1]}")


if __name__ == "__main__":
    main()
