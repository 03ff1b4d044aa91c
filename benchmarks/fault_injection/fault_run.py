"""A run of fault injection: jobs are queued, some are cancelled, and a process is killed every second or so."""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from sqlalchemy import select, text

from app.db.blobs import Blobs
from app.db.database import Database
from app.db.errors import DatabaseError
from app.db.tables import JobRow
from app.db.tenancy import Store
from app.http.dependencies import DEFAULT_TENANT
from app.jobs import repository
from benchmarks.fault_injection.fault_jobs import TABLE
from benchmarks.fault_injection.job_monitor import InterruptedJob, JobMonitor
from benchmarks.fault_injection.service_under_test import DatabaseKind, ServiceUnderTest, Victim

MOST_ATTEMPTS = 1_000
"""Attempts per job, so many that no job becomes `dead` however often it is killed."""
DRAIN_SECONDS = 120.0


@dataclass(frozen=True)
class FaultPlan:
    """The settings of a run."""

    database: DatabaseKind = "sqlite"
    kills: int = 60
    seed: int = 1
    lease: float = 10.0
    jobs_at_a_time: int = 2
    """Jobs at a time of each of two workers."""
    active: int = 10
    """Number of jobs kept queued or running."""
    steps: int = 20
    """Most steps of a job, each a tenth of a second."""
    endless: float = 0.2
    """Share of jobs that end only by being cancelled."""
    pause: tuple[float, float] = (0.3, 4.0)
    """Range of the seconds between two kills, drawn uniformly."""
    api: bool = True
    victims: tuple[Victim, ...] = ("child", "supervisor", "api")


@dataclass
class FaultReport:
    """The counts and times of a run."""

    plan: FaultPlan
    kills: Counter[Victim] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    effects: Counter[int] = field(default_factory=Counter)
    """Number of succeeded jobs by the number of their effects."""
    stray_effects: int = 0
    """Effects of jobs that did not succeed."""
    attempts: int = 0
    resumed: int = 0
    interrupted: list[InterruptedJob] = field(default_factory=list)
    cancelled: list[float] = field(default_factory=list)
    ended: Counter[str] = field(default_factory=Counter)
    """Processes that ended without being killed, by exit status."""
    seconds: float = 0.0
    logs: Path | None = None

    def faults(self, leases: float = 2) -> list[str]:
        """Return what went wrong. Recovery from a kill and cancellation may take `leases` leases."""
        patience = leases * self.plan.lease
        found = []
        if set(self.states) - {"succeeded", "cancelled"}:
            found.append(f"jobs neither succeeded nor were cancelled: {dict(self.states)}")
        if set(self.effects) - {1}:
            found.append(f"effects per job: {dict(self.effects)}")
        if self.stray_effects:
            found.append(f"{self.stray_effects} effects of jobs that did not succeed")
        if late := [job for job in self.interrupted if job.recovered is None or job.recovered > patience]:
            found.append(f"not recovered within {leases} leases: {late}")
        if slow := [seconds for seconds in self.cancelled if seconds > patience]:
            found.append(f"cancelled after more than {leases} leases: {slow}")
        return found


async def run(plan: FaultPlan) -> FaultReport:
    """Run the plan. Logs remain in a temporary folder if it ends with an exception or a fault."""
    folder = Path(tempfile.mkdtemp(prefix="kills-"))
    service = ServiceUnderTest(plan.database, folder, plan.lease, plan.jobs_at_a_time, plan.api)
    try:
        await asyncio.to_thread(service.begin)
        report = await _Run(plan, service).go()
    except BaseException as error:
        error.add_note(f"logs: {folder}")
        raise
    finally:
        await asyncio.to_thread(service.end)
    if report.faults():
        report.logs = folder
    else:
        shutil.rmtree(folder)
    return report


class _Run:
    def __init__(self, plan: FaultPlan, service: ServiceUnderTest) -> None:
        self.plan = plan
        self.service = service
        self.database = Database(service.url)
        self.store = Store(DEFAULT_TENANT, self.database, Blobs.at(None, service.folder / "data"))
        self.monitor = JobMonitor(self.database, plan.lease)
        self.rng = random.Random(plan.seed)
        self.report = FaultReport(plan)
        self.feeding = True
        self.cancelling: set[asyncio.Task[None]] = set()

    async def go(self) -> FaultReport:
        started = time.monotonic()
        async with self.database.write() as session:
            await session.execute(text(TABLE))
        monitoring = asyncio.create_task(self.monitor.run())
        restarting = asyncio.create_task(self._restart())
        feeding = asyncio.create_task(self._feed())
        try:
            await self._until(lambda: any(row.state == "running" for row in self.monitor.rows.values()))
            while self.report.kills.total() < self.plan.kills:
                # A random time, but one at which a job runs.
                await asyncio.sleep(self.rng.uniform(*self.plan.pause))
                await self._until(lambda: bool(self.service.children()))
                await self._kill()
            self.feeding = False
            await feeding
            await asyncio.gather(*self.cancelling)
            await self._until(lambda: self.monitor.active == 0)
            # Wait longer for a process that was left behind and might publish a second time.
            await asyncio.sleep(self.plan.lease)
            await self._count()
        finally:
            for task in (monitoring, restarting, feeding, *self.cancelling):
                task.cancel()
            await asyncio.gather(monitoring, restarting, feeding, *self.cancelling, return_exceptions=True)
            await self.database.close()
        self.report.ended = +self.service.ended
        self.report.interrupted = self.monitor.interrupted
        self.report.cancelled = sorted(self.monitor.cancelled.values())
        self.report.seconds = time.monotonic() - started
        return self.report

    async def _kill(self) -> None:
        victim = self.rng.choice(self.plan.victims)
        target = await self.service.kill(victim, self.rng)
        if target is not None:
            self.report.kills[victim] += 1
            self.monitor.record_kill(victim, target, time.monotonic(), time.time())

    async def _restart(self) -> None:
        """Restart processes that have ended, as a process manager does."""
        while True:
            await self.service.restore()
            await asyncio.sleep(0.2)

    async def _feed(self) -> None:
        """Keep jobs queued, some of which will be cancelled."""
        while self.feeding:
            if self.monitor.active < self.plan.active:
                endless = self.rng.random() < self.plan.endless
                job = await self._enqueue("endless" if endless else "count")
                if job is not None and endless:
                    self.cancelling.add(asyncio.create_task(self._cancel(job, self.rng.uniform(0, 3))))
            await asyncio.sleep(0.1)

    async def _enqueue(self, kind: str) -> str | None:
        """Queue a job. Return None if the database did not respond; the job may exist nevertheless, and is counted."""
        payload = {"steps": self.rng.randint(2, self.plan.steps)}
        with suppress(DatabaseError):
            async with self.store.write() as session:
                job = await repository.enqueue(session, kind, payload, max_attempts=MOST_ATTEMPTS)
            return job.id
        return None

    async def _cancel(self, job: str, after: float) -> None:
        await asyncio.sleep(after)
        while not await self._acknowledged(job):  # noqa: ASYNC110
            await asyncio.sleep(0.2)
        self.monitor.cancels[job] = time.monotonic()

    async def _acknowledged(self, job: str) -> bool:
        if self.plan.api:
            with suppress(httpx.TransportError):
                async with httpx.AsyncClient(base_url=self.service.address, timeout=5) as client:
                    return (await client.post(f"/v1/jobs/{job}/cancel")).status_code in (202, 409)
            return False
        with suppress(DatabaseError):
            async with self.store.write() as session:
                await repository.request_cancel(session, job)
            return True
        return False

    async def _until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + DRAIN_SECONDS
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"jobs are still unfinished: {dict(Counter(row.state for row in self.monitor.rows.values()))}"
                )
            await asyncio.sleep(0.05)

    async def _count(self) -> None:
        async with self.database.read() as session:
            jobs = list(await session.scalars(select(JobRow)))
            effects = Counter(await session.scalars(text("SELECT job FROM kill_effects")))
        for job in jobs:
            self.report.states[job.state] += 1
            self.report.attempts += job.attempt
            if job.state == "succeeded":
                self.report.effects[effects.pop(job.id, 0)] += 1
                self.report.resumed += bool((job.result or {})["resumed_from"])
        self.report.stray_effects = effects.total()
