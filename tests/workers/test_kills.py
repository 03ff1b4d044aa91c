"""Kills at random instants (`python -m benchmarks.fault_injection`), few by default; at length they are marked slow."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks.fault_injection.fault_run import FaultPlan, run
from tests.servers.programs import installed_postgres, missing, wheel_postgres

PATIENCE_LEASES = 10
"""A machine that runs tests starts processes slowly; the benchmark itself allows two."""


def test_every_job_is_done_once() -> None:
    plan = FaultPlan(
        kills=4,
        lease=2.0,
        active=4,
        steps=8,
        pause=(0.2, 0.8),
        endless=0.25,
        api=False,
        victims=("child", "supervisor"),
    )
    report = asyncio.run(run(plan))
    assert report.faults(PATIENCE_LEASES) == []
    assert report.kills.total() == plan.kills
    assert report.states["succeeded"] >= 1


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_every_job_is_done_once_at_length(database: str) -> None:
    """The API is killed as well, and the database server, which recovers from its crash."""
    if database == "postgresql" and installed_postgres() is None and wheel_postgres() is None:
        missing("PostgreSQL to kill", "PATH")
    victims = ("child", "supervisor", "api", "database")
    plan = FaultPlan(database=database, kills=15, victims=victims[: 3 if database == "sqlite" else 4])  # type: ignore[arg-type]
    report = asyncio.run(run(plan))
    assert report.faults(PATIENCE_LEASES) == []
