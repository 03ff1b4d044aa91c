"""The server in a thread of the tests: it starts in a second, for tests that start it again and again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import uvicorn

from app.core.settings import Settings
from app.main import create_app
from tests.app.server import READY_SECONDS, free_port


@contextmanager
def inside(data_dir: Path, learners_dir: Path, **settings: Any) -> Iterator[httpx.Client]:
    """Stopped at the end of the block."""
    port = free_port()
    app = create_app(Settings(data_dir=data_dir, learners_dir=learners_dir, drain_seconds=0, **settings))
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, lifespan="on"))
    thread = Thread(target=server.run, daemon=True)
    thread.start()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            _wait_until_ready(client, thread)
            yield client
    finally:
        server.should_exit = True
        thread.join()


def _wait_until_ready(client: httpx.Client, thread: Thread) -> None:
    started = time.monotonic()
    while time.monotonic() - started < READY_SECONDS:
        assert thread.is_alive(), "the server did not start"
        try:
            if client.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.02)
    raise AssertionError("the server did not become ready")
