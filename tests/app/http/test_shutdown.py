"""The end of a process that a thread would keep alive."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]

SERVER = """
import asyncio, concurrent.futures, signal, sys, time
from contextlib import asynccontextmanager
from pathlib import Path
import uvicorn
from app.http.shutdown import GracefulShutdown
from fastapi import FastAPI

def busy():
    end = time.monotonic() + 30
    while time.monotonic() < end:
        {work}

@asynccontextmanager
async def lifespan(app):
    executor = {executor}
    asyncio.get_running_loop().run_in_executor(executor, busy)
    with GracefulShutdown({drain}).on_signals():
        Path({flag!r}).touch()
        yield
    {teardown}

def create():
    return FastAPI(lifespan=lifespan)

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    uvicorn.run(create, factory=True, port=0, timeout_graceful_shutdown=1)
"""
WORK = {"waiting": "time.sleep(30)", "computing": "sum(range(1000))"}
EXECUTORS = {"default": "None", "own": "concurrent.futures.ThreadPoolExecutor(1)"}
TEARDOWN = {"free": "pass", "blocked": "executor and executor.shutdown(wait=True)"}


@pytest.mark.parametrize(
    ("work", "executor", "teardown", "drain"),
    [
        ("computing", "default", "free", 1),
        ("waiting", "own", "blocked", 0),
        pytest.param("computing", "own", "blocked", 1, marks=pytest.mark.slow),
        pytest.param("waiting", "default", "free", 0, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("ending", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_busy_thread_does_not_keep_the_process(
    tmp_path: Path, work: str, executor: str, teardown: str, drain: float, ending: signal.Signals
) -> None:
    flag, script = tmp_path / "started", tmp_path / "served.py"
    script.write_text(
        SERVER.format(
            work=WORK[work],
            executor=EXECUTORS[executor],
            teardown=TEARDOWN[teardown],
            drain=drain,
            flag=str(flag),
        )
    )
    environment = {"PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen([sys.executable, str(script)], cwd=tmp_path, env=environment)
    try:
        while not flag.exists():
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(0.5)
        started = time.monotonic()
        process.send_signal(ending)
        assert process.wait(timeout=10) == 0
        assert time.monotonic() - started < 5
    finally:
        process.kill()
        process.wait()
