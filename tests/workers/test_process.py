"""`python -m workers` as a process: killed, stopped, left behind, and started before its database is there."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from app.db.database import Database
from app.db.migrate import upgrade
from tests.workers.conftest import QueueBench
from tests.workers.test_supervisor import Run, alive, until


def children(worker: subprocess.Popen[bytes]) -> list[int]:
    return [child.pid for child in psutil.Process(worker.pid).children(recursive=True)]


def test_children_die_with_a_killed_supervisor_and_their_jobs_go_on_elsewhere(run: Run) -> None:
    async def story(bench: QueueBench) -> None:
        id = await bench.add("work", payload={"seconds": 1.5})
        first, second = bench.process(), bench.process()
        try:
            await bench.until(id, "running")
            owner = (await bench.job(id)).lease_owner
            assert owner is not None
            victim = first if owner.endswith(f":{first.pid}") else second
            await until(lambda: bool(children(victim)))
            pids = children(victim)
            victim.send_signal(signal.SIGKILL)
            await until(lambda: not any(alive(pid) for pid in pids), 2)
            job = await bench.ended(id)
            assert (job.state, job.attempt, await bench.effects(id)) == ("succeeded", 2, 1)
        finally:
            for worker in (first, second):
                worker.kill()
                worker.wait()

    run(story)


def test_attached_worker_ends_with_its_parent(run: Run) -> None:
    """It gives its job back first."""

    async def story(bench: QueueBench) -> None:
        id = await bench.add("work", payload={"seconds": 60})
        worker = bench.process("--attached")
        try:
            await bench.until(id, "running")
            assert worker.stdin is not None
            worker.stdin.close()
            assert await asyncio.to_thread(worker.wait, 5) == 0
            assert (await bench.job(id)).state == "queued"
        finally:
            worker.kill()
            worker.wait()

    run(story)


def test_waits_for_a_database_and_survives_its_absence(tmp_path: Path, run: Run) -> None:
    """A file that is no database is what SQLite can do like a server that is down."""

    async def story(bench: QueueBench) -> None:
        place = tmp_path / "late" / "queue.db"
        url = f"sqlite+aiosqlite:///{place}"
        settings = bench.settings.model_copy(update={"database_url": url})
        late = QueueBench(settings, Database(url))
        worker = late.process()
        try:
            await until(lambda: "waiting for the database" in late.log.read_text())
            assert worker.poll() is None
            place.parent.mkdir()
            await asyncio.to_thread(upgrade, url)
            assert (await late.ended(await late.add("work"))).state == "succeeded"
            started = time.monotonic()
            worker.terminate()
            assert await asyncio.to_thread(worker.wait, 5) == 0
            assert time.monotonic() - started < 3
        finally:
            worker.kill()
            worker.wait()
            await late.database.close()

    run(story)


@pytest.mark.slow
def test_absent_device_stops_the_worker(tmp_path: Path) -> None:
    """Before every job fails for it."""
    command = [sys.executable, "-m", "hyperserve", "worker", "--device", "cuda:99", "--jobs", "2"]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 1
    assert "the device cuda:99 cannot be used" in found.stderr
