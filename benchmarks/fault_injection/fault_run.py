"""One run: jobs come, clients cancel some, and something is killed every second or so."""

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

from app.db.database import Database
from app.db.errors import DatabaseError
from app.db.tables import JobRow
from app.http.dependencies import DEFAULT_TENANT
from app.jobs import repository
from benchmarks.fault_injection.fault_jobs import TABLE
from benchmarks.fault_injection.job_monitor import InterruptedJob, JobMonitor
from benchmarks.fault_injection.service_under_test import DatabaseKind, ServiceUnderTest, Victim

ATTEMPTS = 1_000
"""Nothing shall be `dead`: that many kills of one job are no poison here."""
DRAIN_SECONDS = 120.0


@dataclass(frozen=True)
class FaultPlan:
    database: DatabaseKind = "sqlite"
    kills: int = 60
    seed: int = 1
    lease: float = 10.0
    jobs_at_a_time: int = 2
    """Of each of two workers."""
    active: int = 10
    """Jobs that are queued or running, as long as it goes on."""
    steps: int = 20
    """Of the longest job, each a tenth of a second."""
    endless: float = 0.2
    """The share of jobs that end by being cancelled."""
    pause: tuple[float, float] = (0.3, 4.0)
    """Seconds between two kills, drawn uniformly."""
    api: bool = True
    victims: tuple[Victim, ...] = ("child", "supervisor", "api")


@dataclass
class FaultReport:
    plan: FaultPlan
    kills: Counter[Victim] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    effects: Counter[int] = field(default_factory=Counter)
    """How many succeeded jobs had their effect how often."""
    stray_effects: int = 0
    """Of jobs that did not succeed."""
    attempts: int = 0
    resumed: int = 0
    hits: list[InterruptedJob] = field(default_factory=list)
    cancelled: list[float] = field(default_factory=list)
    ended: Counter[str] = field(default_factory=Counter)
    """Processes that were not killed and ended all the same, by status."""
    seconds: float = 0.0
    logs: Path | None = None

    def faults(self, leases: float = 2) -> list[str]:
        """What a run must not show; within so many leases a kill is made good and a job cancelled."""
        patience = leases * self.plan.lease
        found = []
        if set(self.states) - {"succeeded", "cancelled"}:
            found.append(f"jobs ended otherwise: {dict(self.states)}")
        if set(self.effects) - {1}:
            found.append(f"effects per job: {dict(self.effects)}")
        if self.stray_effects:
            found.append(f"{self.stray_effects} effects of jobs that did not succeed")
        if late := [hit for hit in self.hits if hit.recovered is None or hit.recovered > patience]:
            found.append(f"not recovered within {leases} leases: {late}")
        if slow := [seconds for seconds in self.cancelled if seconds > patience]:
            found.append(f"cancelled too late: {slow}")
        return found


async def run(plan: FaultPlan) -> FaultReport:
    """Logs stay in a temporary folder when it ends with an exception or a fault."""
    folder = Path(tempfile.mkdtemp(prefix="kills-"))
    stage = ServiceUnderTest(plan.database, folder, plan.lease, plan.jobs_at_a_time, plan.api)
    try:
        await asyncio.to_thread(stage.begin)
        report = await _Run(plan, stage).go()
    except BaseException as error:
        error.add_note(f"logs: {folder}")
        raise
    finally:
        await asyncio.to_thread(stage.end)
    if report.faults():
        report.logs = folder
    else:
        shutil.rmtree(folder)
    return report


class _Run:
    def __init__(self, plan: FaultPlan, stage: ServiceUnderTest) -> None:
        self.plan = plan
        self.stage = stage
        self.database = Database(stage.url)
        self.watch = JobMonitor(self.database, plan.lease)
        self.chance = random.Random(plan.seed)
        self.report = FaultReport(plan)
        self.feeding = True
        self.cancelling: set[asyncio.Task[None]] = set()

    async def go(self) -> FaultReport:
        started = time.monotonic()
        async with self.database.write() as session:
            await session.execute(text(TABLE))
        watching = asyncio.create_task(self.watch.run())
        keeping = asyncio.create_task(self._keep())
        feeding = asyncio.create_task(self._feed())
        try:
            await self._until(lambda: any(row.state == "running" for row in self.watch.rows.values()))
            while self.report.kills.total() < self.plan.kills:
                # A random instant, but one at which something runs that can be hit.
                await asyncio.sleep(self.chance.uniform(*self.plan.pause))
                await self._until(lambda: bool(self.stage.children()))
                await self._kill()
            self.feeding = False
            await feeding
            await asyncio.gather(*self.cancelling)
            await self._until(lambda: self.watch.active == 0)
            # And a little longer, for a process that was left behind and would publish a second time.
            await asyncio.sleep(self.plan.lease)
            await self._count()
        finally:
            for task in (watching, keeping, feeding, *self.cancelling):
                task.cancel()
            await asyncio.gather(watching, keeping, feeding, *self.cancelling, return_exceptions=True)
            await self.database.close()
        self.report.ended = +self.stage.ended
        self.report.hits = self.watch.hits
        self.report.cancelled = sorted(self.watch.cancelled.values())
        self.report.seconds = time.monotonic() - started
        return self.report

    async def _kill(self) -> None:
        victim = self.chance.choice(self.plan.victims)
        struck = await self.stage.kill(victim, self.chance)
        if struck is not None:
            self.report.kills[victim] += 1
            self.watch.hit(victim, struck, time.monotonic(), time.time())

    async def _keep(self) -> None:
        """As an operator's system does: what has ended starts again."""
        while True:
            await self.stage.restore()
            await asyncio.sleep(0.2)

    async def _feed(self) -> None:
        """Keeps some jobs queued; every so often one that will be cancelled."""
        while self.feeding:
            if self.watch.active < self.plan.active:
                endless = self.chance.random() < self.plan.endless
                job = await self._enqueue("endless" if endless else "count")
                if job is not None and endless:
                    self.cancelling.add(asyncio.create_task(self._cancel(job, self.chance.uniform(0, 3))))
            await asyncio.sleep(0.1)

    async def _enqueue(self, kind: str) -> str | None:
        """None where the database did not answer; it may have made a job all the same, which counts."""
        payload = {"steps": self.chance.randint(2, self.plan.steps)}
        with suppress(DatabaseError):
            async with self.database.write() as session:
                job = await repository.enqueue(session, DEFAULT_TENANT, kind, payload, max_attempts=ATTEMPTS)
            return job.id
        return None

    async def _cancel(self, job: str, after: float) -> None:
        await asyncio.sleep(after)
        while not await self._acknowledged(job):  # noqa: ASYNC110
            await asyncio.sleep(0.2)
        self.watch.cancels[job] = time.monotonic()

    async def _acknowledged(self, job: str) -> bool:
        if self.plan.api:
            with suppress(httpx.TransportError):
                async with httpx.AsyncClient(base_url=self.stage.address, timeout=5) as client:
                    return (await client.post(f"/v1/jobs/{job}/cancel")).status_code in (202, 409)
            return False
        with suppress(DatabaseError):
            async with self.database.write() as session:
                await repository.request_cancel(session, DEFAULT_TENANT, job)
            return True
        return False

    async def _until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + DRAIN_SECONDS
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"still {dict(Counter(row.state for row in self.watch.rows.values()))}")
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
