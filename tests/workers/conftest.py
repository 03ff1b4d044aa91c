"""A worker on a database of its own, in this process or as the process that it really is."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import func, select

from app.core.settings import Settings
from app.db.database import Database
from app.db.tables import ChangeRow, JobRow
from app.db.tenancy import Store
from app.jobs import repository
from tests.app.stores import store_of
from tests.workers.kinds import EFFECT, KINDS
from tests.workers.stream_bench import StreamBench
from workers.supervisor import Supervisor

TENANT = "t"
LEASE_SECONDS = 2.0
PATIENCE_SECONDS = 25.0


@dataclass
class QueueBench:
    """A queue, and what tests do with it."""

    settings: Settings
    database: Database

    @property
    def log(self) -> Path:
        return self.settings.data_dir.parent / "worker.log"

    @property
    def store(self) -> Store:
        return store_of(self.database, TENANT)

    async def add(self, kind: str, **how: object) -> str:
        payload = how.pop("payload", {})
        async with self.store.write() as session:
            return (await repository.enqueue(session, kind, payload, **how)).id

    async def job(self, id: str) -> JobRow:
        async with self.store.read() as session:
            found = await repository.get(session, id)
        assert found is not None
        return found

    async def until(self, id: str, *states: str) -> JobRow:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (job := await self.job(id)).state not in states:  # noqa: ASYNC110
                await asyncio.sleep(0.03)
        return job

    async def ended(self, id: str) -> JobRow:
        return await self.until(id, "succeeded", "failed", "cancelled", "dead")

    async def cancel(self, id: str) -> JobRow | None:
        async with self.store.write() as session:
            return await repository.request_cancel(session, id)

    async def effects(self, id: str) -> int:
        mine = (ChangeRow.kind == EFFECT, ChangeRow.subject == id)
        async with self.database.read() as session:
            return (await session.scalars(select(func.count()).where(*mine).select_from(ChangeRow))).one()

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """Runs in this process for the block, or until what it yields is called."""
        database, stop = Database(self.settings.database), asyncio.Event()
        running = asyncio.create_task(Supervisor(database, self.settings, KINDS).run(stop))

        async def end() -> None:
            stop.set()
            await running

        try:
            yield end
        finally:
            await end()
            await database.close()

    def process(self, *arguments: str) -> subprocess.Popen[bytes]:
        """`python -m workers` with a pipe for its standard input."""
        environment = {
            **os.environ,
            "HYPERSERVE_DATABASE_URL": self.settings.database,
            "HYPERSERVE_DATA_DIR": str(self.settings.data_dir),
            "HYPERSERVE_LEASE_SECONDS": str(self.settings.lease_seconds),
            "HYPERSERVE_WORKER_JOBS": str(self.settings.worker_jobs),
            "HYPERSERVE_JOB_KINDS": "tests.workers.kinds",
        }
        command = [sys.executable, "-m", "workers", *arguments]
        with self.log.open("ab") as log:
            return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stderr=log)


Story = Callable[[QueueBench], Awaitable[None]]


@pytest.fixture
def bench(empty_database: Path, tmp_path: Path) -> StreamBench:
    """Streams without a server."""
    return StreamBench(tmp_path / "data", empty_database)


@pytest.fixture
def sqlite_url(empty_database: Path, tmp_path: Path) -> str:
    return f"sqlite+aiosqlite:///{shutil.copy(empty_database, tmp_path / 'queue.db')}"


def teller(url: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Story], None]:
    """Runs a test's coroutine with a queue in the database."""
    settings = Settings(database_url=url, data_dir=folder, lease_seconds=LEASE_SECONDS, worker_jobs=4)
    # Children read the environment, as they do under a worker process.
    monkeypatch.setenv("HYPERSERVE_DATABASE_URL", url)
    monkeypatch.setenv("HYPERSERVE_DATA_DIR", str(folder))
    monkeypatch.setenv("HYPERSERVE_JOB_KINDS", "tests.workers.kinds")

    async def tell(story: Story) -> None:
        database = Database(url)
        try:
            await story(QueueBench(settings, database))
        finally:
            await database.close()

    return lambda story: asyncio.run(tell(story))


@pytest.fixture
def run(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Story], None]:
    """On SQLite. What the lease table does on PostgreSQL is tested where it is."""
    return teller(sqlite_url, tmp_path / "data", monkeypatch)
