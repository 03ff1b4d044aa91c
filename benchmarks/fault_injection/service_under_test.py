"""All processes of a service under test: an API with a worker, another worker, and the database."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import psutil

from app.db.migrate import upgrade
from benchmarks.fault_injection.processes import Postgres, Program, free_port, is_child, is_supervisor, python

Victim = Literal["child", "supervisor", "api", "database"]
DatabaseKind = Literal["sqlite", "postgresql"]


@dataclass(frozen=True)
class KillTarget:
    """The jobs affected by a kill: those of supervisors with these pids, or one job."""

    supervisors: frozenset[int]
    job: str | None = None


@dataclass
class ServiceUnderTest:
    """The processes of a service. Without `api` there are two workers and no server."""

    kind: DatabaseKind
    folder: Path
    lease: float
    jobs_at_a_time: int
    api: bool
    port: int = field(default_factory=free_port)
    programs: dict[str, Program] = field(default_factory=dict)
    postgres: Postgres | None = None
    ended: Counter[str] = field(default_factory=Counter)
    """Number of times that a process ended without being killed, by name and exit status."""

    @property
    def url(self) -> str:
        if self.postgres is not None:
            return self.postgres.url
        return f"sqlite+aiosqlite:///{self.folder / 'data' / 'hyperserve.db'}"

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def begin(self) -> None:
        (self.folder / "data").mkdir(parents=True)
        (self.folder / "learners").mkdir()
        if self.kind == "postgresql":
            self.postgres = Postgres(self.folder / "postgres")
            self.postgres.create()
            self.postgres.start()
        upgrade(self.url)
        self.programs["worker"] = self._program("worker", python("workers"))
        if self.api:
            serve = python("hyperserve", "serve", "--port", str(self.port), "--worker")
            self.programs["api"] = self._program("api", serve)
        else:
            self.programs["worker 2"] = self._program("worker 2", python("workers"))
        for program in self.programs.values():
            program.start()

    def _program(self, name: str, command: list[str]) -> Program:
        environment = {
            "HYPERSERVE_DATABASE_URL": self.url,
            "HYPERSERVE_DATA_DIR": str(self.folder / "data"),
            "HYPERSERVE_LEARNERS_DIR": str(self.folder / "learners"),
            "HYPERSERVE_LEASE_SECONDS": str(self.lease),
            "HYPERSERVE_WORKER_JOBS": str(self.jobs_at_a_time),
            "HYPERSERVE_JOB_KINDS": "benchmarks.fault_injection.fault_jobs",
            "OMP_NUM_THREADS": "1",
            # Works from any folder, where no `.env` is read.
            "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        }
        return Program(command, environment, self.folder / f"{name}.log")

    def supervisors(self) -> list[int]:
        mine = [program.pid for name, program in self.programs.items() if name != "api"]
        if self.api:
            mine += [process.pid for process in self.programs["api"].descendants() if is_supervisor(process)]
        return mine

    def children(self) -> list[int]:
        descendants = [process for program in self.programs.values() for process in program.descendants()]
        return [process.pid for process in descendants if is_child(process)]

    async def kill(self, victim: Victim, rng: random.Random) -> KillTarget | None:
        """Kill a victim. Return the affected jobs, or None if there was nothing to kill."""
        if victim == "database":
            assert self.postgres is not None
            await asyncio.to_thread(self.postgres.kill)
            return KillTarget(frozenset(self.supervisors()))
        if victim == "api":
            beside = frozenset(self.supervisors()) - {self.programs["worker"].pid}
            await asyncio.to_thread(self.programs["api"].kill)
            return KillTarget(beside)
        candidates = self.children() if victim == "child" else self.supervisors()
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            if not candidates:
                return None
            pid = rng.choice(sorted(candidates))
            job = psutil.Process(pid).cmdline()[-2] if victim == "child" else None
            os.kill(pid, signal.SIGKILL)
            return KillTarget(frozenset({pid}), job)
        return None

    async def restore(self) -> None:
        """Restart the processes that have ended and that no other process restarts."""
        for name, program in self.programs.items():
            assert program.process is not None
            if (status := program.process.poll()) is not None:
                self.ended[f"{name}: {status}"] += status != -signal.SIGKILL
                program.start()
        if self.postgres is not None:
            await asyncio.to_thread(self.postgres.start)

    def end(self) -> None:
        descendants = [process for program in self.programs.values() for process in program.descendants()]
        for program in self.programs.values():
            program.kill()
        for process in descendants:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        if self.postgres is not None:
            self.postgres.kill()
