"""The command `python -m benchmarks.fault_injection`, and the figures that it prints."""

from __future__ import annotations

import asyncio
import json
import statistics
from typing import Annotated, Any, get_args

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.fault_injection.fault_run import FaultPlan, FaultReport, run
from benchmarks.fault_injection.service_under_test import DatabaseKind, Victim


def main(
    database: Annotated[list[str] | None, typer.Option(help="sqlite or postgresql; both by default.")] = None,
    kills: Annotated[int, typer.Option(help="Number of kills for each database.")] = 60,
    seed: Annotated[int, typer.Option(help="Seed of the processes killed, the times, and the jobs.")] = 1,
    lease: Annotated[float, typer.Option(help="Duration of a lease in seconds.")] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Kill processes of a service with SIGKILL at random times while jobs run; fail unless each job took effect
    once."""
    kinds: list[DatabaseKind] = [
        kind for kind in get_args(DatabaseKind) if kind in (database or get_args(DatabaseKind))
    ]
    reports = []
    for kind in kinds:
        victims: tuple[Victim, ...] = ("child", "supervisor", "api")
        if kind == "postgresql":
            victims = (*victims, "database")
        plan = FaultPlan(database=kind, kills=kills, seed=seed, lease=lease, victims=victims)
        reports.append(asyncio.run(run(plan)))
    if as_json:
        typer.echo(json.dumps([figures(report) for report in reports], indent=2))
    else:
        show(reports)
    if faults := [fault for report in reports for fault in report.faults()]:
        logs = [f"logs: {report.logs}" for report in reports if report.logs is not None]
        typer.echo("\n".join(faults + logs), err=True)
        raise typer.Exit(1)


def figures(report: FaultReport) -> dict[str, Any]:
    """Return the figures of a run; times are in seconds."""
    by_victim = {
        victim: [
            job.recovered for job in report.interrupted if job.victim == victim and job.recovered is not None
        ]
        for victim in report.plan.victims
    }
    first = [job.since_first_kill for job in report.interrupted if job.since_first_kill is not None]
    return {
        "database": report.plan.database,
        "seed": report.plan.seed,
        "lease": report.plan.lease,
        "kills": dict(report.kills) | {"total": report.kills.total()},
        "jobs": dict(report.states) | {"total": report.states.total()},
        "attempts": report.attempts,
        "resumed_from_a_checkpoint": report.resumed,
        "effects_per_succeeded_job": {str(count): jobs for count, jobs in report.effects.items()},
        "effects_of_other_jobs": report.stray_effects,
        "recoveries": {victim: _spread(seconds) for victim, seconds in by_victim.items()},
        "since_the_first_of_several_kills": _spread(first),
        "cancels": _spread(report.cancelled),
        "ended_without_being_killed": dict(report.ended),
        "duration": round(report.seconds, 1),
        "faults": report.faults(),
    }


def _spread(seconds: list[float]) -> dict[str, float]:
    if not seconds:
        return {"count": 0}
    spread = {"median": statistics.median(seconds), "most": max(seconds)}
    return {"count": len(seconds)} | {name: round(value, 2) for name, value in spread.items()}


def show(reports: list[FaultReport]) -> None:
    """Print a table of all reports."""
    found = [figures(report) for report in reports]
    table = Table("", *(f"{entry['database']}, seed {entry['seed']}" for entry in found))
    for name in ("lease", "kills", "jobs", "attempts", "resumed_from_a_checkpoint"):
        table.add_row(name, *(_words(entry[name]) for entry in found))
    for name in (
        "effects_per_succeeded_job",
        "effects_of_other_jobs",
        "cancels",
        "ended_without_being_killed",
    ):
        table.add_row(name, *(_words(entry[name]) for entry in found))
    for victim in get_args(Victim):
        table.add_row(
            f"recovery, {victim} killed", *(_words(entry["recoveries"].get(victim, "")) for entry in found)
        )
    name = "since_the_first_of_several_kills"
    table.add_row(name, *(_words(entry[name]) for entry in found))
    table.add_row("duration", *(_words(entry["duration"]) for entry in found))
    Console().print(table)


def _words(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {number}" for name, number in value.items())
    return f"{value}"


if __name__ == "__main__":
    typer.run(main)
