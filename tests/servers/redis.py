"""Redis: a server without persistence."""

from __future__ import annotations

import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.app.server import free_port
from tests.servers.programs import installed_redis, missing, wheel_redis

VARIABLE = "HYPERSERVE_TEST_REDIS_URL"
START_SECONDS = 10


@dataclass
class Redis:
    """A server that tests may stop, kill and start again, empty, on the same port."""

    folder: Path
    program: Path
    port: int = field(default_factory=free_port)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        command = [str(self.program), "--bind", "127.0.0.1", "--port", str(self.port)]
        with (self.folder / "redis.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--save", "", "--appendonly", "no"], cwd=self.folder, stdout=log, stderr=log
            )
        started = time.monotonic()
        while time.monotonic() - started < START_SECONDS:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.01)
        raise AssertionError(f"Redis did not start:\n{(self.folder / 'redis.log').read_text()}")

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(timeout=10)


def own_redis(folder: Path) -> Redis:
    """Not yet started. Skips where no program is found: a server by URL is not ours to stop."""
    program = installed_redis() or wheel_redis()
    if program is None:
        missing("Redis to stop and start", "PATH")
    return Redis(folder, program)
