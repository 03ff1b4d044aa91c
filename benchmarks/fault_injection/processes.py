"""Processes that can be killed and restarted."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import psutil
import psycopg

from tests.servers.programs import installed_postgres, unprivileged, wheel_postgres

START_SECONDS = 60.0
POSTGRES_CONNECTIONS = 60


def free_port() -> int:
    """Return a TCP port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


@dataclass
class Program:
    """A command whose log continues over restarts."""

    command: list[str]
    environment: Mapping[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, env={**os.environ, **self.environment}, stdout=log, stderr=log, cwd="/"
            )

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def descendants(self) -> list[psutil.Process]:
        """Return all descendants of the process."""
        with suppress(psutil.NoSuchProcess):
            return list(psutil.Process(self.pid).children(recursive=True))
        return []


def python(*arguments: str) -> list[str]:
    """Return the command that runs a module with this interpreter."""
    return [sys.executable, "-m", *arguments]


def is_supervisor(process: psutil.Process) -> bool:
    """Return True for the supervisor of a worker."""
    return _runs(process, "workers")


def is_child(process: psutil.Process) -> bool:
    """Return True for the child process of a job."""
    return _runs(process, "workers.child")


def _runs(process: psutil.Process, module: str) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE and module in process.cmdline()[:4]
    return False


@dataclass
class Postgres:
    """A separate PostgreSQL cluster with the default durability: `fsync` and `synchronous_commit` are on."""

    folder: Path
    port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://test@127.0.0.1:{self.port}/postgres"

    def create(self) -> None:
        self.folder.mkdir()
        if unprivileged():
            self.folder.parent.chmod(0o711)
            shutil.chown(self.folder, unprivileged()[1].removeprefix("--reuid="))
        command = self._command("initdb", "-D", str(self._data), "-U", "test", "-A", "trust")
        subprocess.run(command, check=True, capture_output=True, cwd="/")

    def start(self) -> None:
        """Start the server, and return once it has recovered from a crash and accepts connections."""
        deadline = time.monotonic() + START_SECONDS
        options = ["-D", str(self._data), "-p", str(self.port), "-k", str(self.folder), "-h", "127.0.0.1"]
        options += ["-c", f"max_connections={POSTGRES_CONNECTIONS}"]
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                # It also ends if shared memory of the killed server is still in use.
                with (self.folder.parent / "postgres.log").open("ab") as log:
                    command = self._command("postgres", *options)
                    self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/")
            with suppress(psycopg.OperationalError):
                psycopg.connect(self.url.replace("+psycopg", ""), connect_timeout=2).close()
                return
            time.sleep(0.05)
        raise TimeoutError(f"PostgreSQL did not start within {START_SECONDS:.0f} s: see postgres.log")

    def kill(self) -> None:
        """Kill all processes at once, so that nothing more is written."""
        if self._process is None:
            return
        with suppress(psutil.NoSuchProcess):
            master = psutil.Process(self._process.pid)
            for process in (master, *master.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGKILL)
        self._process.wait()

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _command(self, program: str, *arguments: str) -> list[str]:
        programs = installed_postgres() or wheel_postgres() or _missing()
        return [*unprivileged(), str(programs / program), *arguments]


def _missing() -> NoReturn:
    raise FileNotFoundError("PostgreSQL is not installed")
