"""Changes between processes: none is lost, none comes early, and none twice unless its listener failed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from sqlalchemy import func, select, text, update

from app.db import invalidation_log
from app.db.database import Database
from app.db.invalidation_log import EVERYTHING, Change, ChangeWatcher, _Subscription, drop_old, record
from app.db.tables import ChangeRow

ONE, TWO = Change("t", "task", "task_1", ("2",)), Change("u", "purge", "task_2", ("ver_1", "ver_2"))


class Process:
    """A process with an engine and a watcher of its own, and the changes delivered to it."""

    def __init__(self, url: str, seconds: float = 0.05) -> None:
        self.database = Database(url)
        self.watcher = ChangeWatcher(self.database, seconds)
        self.received: list[Change] = []
        self.watcher.subscribe(self.take)

    async def take(self, changes: Sequence[Change]) -> None:
        self.received += changes

    async def say(self, *changes: Change, fail: bool = False) -> None:
        async with self.database.write() as session:
            await record(session, *changes)
            if fail:
                raise RuntimeError

    async def until(self, received: Callable[[], bool], seconds: float = 5) -> float:
        started = time.monotonic()
        while not received():
            assert time.monotonic() - started < seconds, self.received
            await asyncio.sleep(0.01)
        return time.monotonic() - started


@asynccontextmanager
async def running(*processes: Process) -> AsyncIterator[None]:
    """Begin with the processes that have not begun."""
    for process in processes:
        if process.watcher._until is None:
            await process.watcher.begin()
    tasks = [asyncio.create_task(process.watcher.run()) for process in processes]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for process in processes:
            await process.database.close()


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await test()

    asyncio.run(main())


def test_every_process_receives_what_was_committed_since_it_began(database_url: str) -> None:
    async def test() -> None:
        first, second = Process(database_url), Process(database_url)
        await first.say(TWO)
        async with running(first, second):
            with pytest.raises(RuntimeError):
                await first.say(TWO, fail=True)
            await first.say(ONE, TWO)
            await second.say(ONE)
            for process in (first, second):
                await process.until(lambda process=process: len(process.received) >= 3)
            await asyncio.sleep(0.2)
            assert first.received == second.received == [ONE, TWO, ONE]

    run(test)


def test_a_change_that_becomes_visible_late_is_not_lost(databases_url: str) -> None:
    """Its transaction began before another that committed first; PostgreSQL alone lets two write at a time."""

    async def test() -> None:
        process = Process(databases_url)
        async with running(process), AsyncExitStack() as late:
            await record(await late.enter_async_context(process.database.write()), ONE)
            await process.say(TWO)
            await process.until(lambda: process.received == [TWO])
            await late.aclose()
            await process.until(lambda: process.received == [TWO, ONE])

    run(test)


@pytest.fixture
def databases_url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue("databases").migrated()
    return url


def test_who_catches_up_has_everything_that_was_committed(database_url: str) -> None:
    """Callers share readings; one that is cancelled in the middle loses no change of the listeners behind it."""

    async def test() -> None:
        process, hold = Process(database_url, seconds=30), asyncio.Event()
        slow: list[Change] = []

        async def listener(changes: Sequence[Change]) -> None:
            await hold.wait()
            slow.extend(changes)

        process.watcher._subscriptions.insert(0, _Subscription(listener))
        await process.watcher.begin()
        await process.say(ONE)
        first = asyncio.create_task(process.watcher.catch_up())
        await asyncio.sleep(0.1)
        await process.say(TWO)
        others = [asyncio.create_task(process.watcher.catch_up()) for _ in range(5)]
        await asyncio.sleep(0.1)
        first.cancel()
        hold.set()
        await asyncio.wait_for(asyncio.gather(*others), 5)
        assert slow == process.received == [ONE, TWO]
        assert process.watcher._begun == 2, "one reading for five callers"
        await process.database.close()

    run(test)


def test_a_wake_up_comes_before_the_next_look(database_url: str) -> None:
    async def test() -> None:
        sleepy = Process(database_url, seconds=30)
        sleepy.database.on_change = sleepy.watcher.wake
        async with running(sleepy):
            await asyncio.sleep(0.1)
            await sleepy.say(ONE)
            assert await sleepy.until(lambda: sleepy.received == [ONE]) < 2

    run(test)


def test_without_a_record_or_a_commit_nobody_is_woken(database_url: str) -> None:
    async def test() -> None:
        process, woken = Process(database_url), []
        process.database.on_change = lambda: woken.append(1)
        async with process.database.write() as session:
            await session.execute(text("SELECT 1"))
        with pytest.raises(RuntimeError):
            await process.say(ONE, fail=True)
        assert woken == []
        await process.say(ONE)
        assert woken == [1]
        await process.database.close()

    run(test)


def test_a_listener_that_fails_gets_its_changes_again_and_holds_up_no_other(database_url: str) -> None:
    async def test() -> None:
        process, failures = Process(database_url), 3
        taken: list[Sequence[Change]] = []

        async def clumsy(changes: Sequence[Change]) -> None:
            nonlocal failures
            failures -= 1
            if failures >= 0:
                raise ValueError("not now")
            taken.append(changes)

        process.watcher.subscribe(clumsy)
        async with running(process):
            await process.say(ONE)
            await process.until(lambda: taken == [(ONE,)])
            assert process.received == [ONE]

    run(test)


def test_after_a_long_silence_all_of_it_comes(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the database was away: nothing is looked for by this machine's clock."""

    async def test() -> None:
        process = Process(database_url)
        await process.watcher.begin()
        monkeypatch.setattr(invalidation_log, "LOOK_BACK_MS", 0)
        await process.say(ONE)
        await asyncio.sleep(0.1)
        async with running(process):
            await process.until(lambda: process.received == [ONE])

    run(test)


def test_old_changes_are_dropped_and_a_process_that_missed_them_gets_everything(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        process = Process(database_url)
        async with running(process):
            await process.say(ONE, TWO)
            await process.until(lambda: len(process.received) == 2)
            async with process.database.write() as session:
                old = ChangeRow.at - invalidation_log.RETENTION_MS
                await session.execute(update(ChangeRow).where(ChangeRow.kind == "task").values(at=old))
                await drop_old(session, invalidation_log.RETENTION_MS)
                left = (await session.scalars(select(func.count()).select_from(ChangeRow))).one()
            assert left == 1
            # As if the last reading were that long ago.
            monkeypatch.setattr(
                process.watcher, "_until", process.watcher._until - invalidation_log.RETENTION_MS
            )
            await process.until(lambda: Change("", EVERYTHING, "") in process.received)

    run(test)
