"""The outcomes that a child publishes, run in the process of the test."""

from __future__ import annotations

import asyncio
import io
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from app.db.tables import JobRow
from app.jobs import folders, repository
from tests.workers.conftest import QueueBench
from tests.workers.kinds import KINDS
from workers import child
from workers.ipc import LINE_MAX, JobSpec, ProgressReporter

Run = Callable[[Callable[[QueueBench], Awaitable[None]]], None]


async def claimed(bench: QueueBench, kind: str, attempt: int = 1) -> JobSpec:
    """A job of the kind, claimed."""
    await bench.add(kind)
    for _ in range(attempt):
        async with bench.database.write() as session:
            job = await repository.claim(session, "w", -1)
        assert job is not None
    folder, _ = folders.prepare(bench.settings.data_dir, job.id, job.attempt)
    payload: dict[str, Any] = {}
    token = job.lease_token
    return JobSpec(job.id, "t", kind, KINDS[kind], job.attempt, token, payload, str(folder), None)


async def carried_out(bench: QueueBench, spec: JobSpec) -> tuple[int, JobRow]:
    status = await child.run(spec, bench.settings, ProgressReporter(io.BytesIO()))
    return status, await bench.job(spec.id)


@pytest.mark.parametrize(
    ("kind", "code"),
    [("refuse", "no_classes"), ("refuse_in_effect", "name_taken"), ("crash", "internal_error")],
)
def test_failures_are_told_once(run: Run, kind: str, code: str) -> None:
    """With the job's own words, or with none of the log's."""

    async def story(bench: QueueBench) -> None:
        status, job = await carried_out(bench, await claimed(bench, kind))
        assert (status, job.state) == (0, "failed")
        assert job.error is not None
        assert job.error["code"] == code
        assert "secret" not in str(job.error)

    run(story)


def test_absent_database_is_no_failure(run: Run) -> None:
    async def story(bench: QueueBench) -> None:
        first = await claimed(bench, "away_once")
        status, job = await carried_out(bench, first)
        assert (status, job.state) == (os.EX_TEMPFAIL, "running")
        status, job = await carried_out(bench, await claimed(bench, "away_once", attempt=2))
        assert status == 0

    run(story)


def test_nothing_is_published_without_the_lease(run: Run) -> None:
    async def story(bench: QueueBench) -> None:
        stale = await claimed(bench, "work")
        async with bench.database.write() as session:
            assert await repository.claim(session, "another", 60_000) is not None
        status, job = await carried_out(bench, stale)
        assert (status, job.state, job.result, job.lease_owner) == (0, "running", None, "another")
        assert await bench.effects(job.id) == 0

    run(story)


@pytest.mark.parametrize("held", [True, False])
def test_what_comes_after_comes_when_the_end_is_published(run: Run, held: bool) -> None:
    async def story(bench: QueueBench) -> None:
        spec = await claimed(bench, "tidy")
        if not held:
            async with bench.database.write() as session:
                assert await repository.claim(session, "another", 60_000) is not None
        await carried_out(bench, spec)
        assert (Path(spec.folder) / "tidied").exists() is held

    run(story)


def test_publishing_waits_for_the_database(run: Run) -> None:
    """A folder in place of the file is to SQLite what a server that is down is to other databases."""

    def take_away(file: Path) -> None:
        file.rename(file.with_suffix(".away"))
        file.mkdir()

    def bring_back(file: Path) -> None:
        file.rmdir()
        file.with_suffix(".away").rename(file)

    async def story(bench: QueueBench) -> None:
        spec = await claimed(bench, "work")
        file = Path(bench.database.engine.url.database or "")
        take_away(file)
        running = asyncio.ensure_future(carried_out(bench, spec))
        await asyncio.sleep(0.8)
        assert not running.done()
        bring_back(file)
        status, job = await running
        assert (status, job.state, await bench.effects(spec.id)) == (0, "succeeded", 1)

    run(story)


def test_progress_is_sent_once_a_second_and_the_newest() -> None:
    stream = io.BytesIO()
    reporter = ProgressReporter(stream)
    for step in range(100):
        reporter({"step": step})
        time.sleep(0.012)
    time.sleep(1.1)
    assert 2 <= len(stream.getvalue().splitlines()) <= 4
    assert stream.getvalue().splitlines()[-1] == b'{"step": 99}'
    assert reporter.newest == {"step": 99}
    with pytest.raises(ValueError, match="exceeds the limit"):
        reporter({"text": "x" * LINE_MAX})
    with pytest.raises(TypeError):
        reporter({"path": Path()})


def test_folders(tmp_path: Path) -> None:
    """An attempt finds the newest one before it; its own is empty even where it was begun already."""
    first, previous = folders.prepare(tmp_path, "job_a", 1)
    assert (previous, first) == (None, tmp_path / "jobs" / "job_a" / "1")
    third, previous = folders.prepare(tmp_path, "job_a", 3)
    assert previous == first
    (third / "step").write_text("7")
    assert list(folders.prepare(tmp_path, "job_a", 3)[0].iterdir()) == []
    assert folders.prepare(tmp_path, "job_a", 12)[1] == third
