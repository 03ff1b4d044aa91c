"""Records of continual learning as tables: a row for each method, means and intervals over training seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from scipy.special import stdtrit

from experiments.continual.records import Record
from experiments.continual.reported_continual import NOTES, reported
from models.training.card import table

_NONE = "–"
_TOLD = {
    "cl1": "CL1: the stream task is told, each has a head of its own",
    "cl2": "CL2: one head and one set of labels, the stream task is not told",
    "cl3": "CL3: all labels are different, the stream task must be inferred",
}
Row = dict[str, Any]


def summaries(records: Sequence[Record]) -> list[Row]:
    """One row for each method, setting and protocol, best first within a protocol. Accuracies from 0 to 1."""
    rows = [_summary(found) for found in settings(records)]
    return sorted(rows, key=lambda row: (*_protocol(row), -row["final"]["mean"]))


def settings(records: Sequence[Record]) -> list[list[Record]]:
    """Records that differ in their seed alone, and were made on one kind of device."""

    def key(record: Record) -> str:
        return record.run.model_copy(update={"seed": 0}).model_dump_json() + record.device

    return [
        list(found) for _, found in groupby(sorted(records, key=lambda one: (key(one), one.run.seed)), key)
    ]


def page(records: Sequence[Record], pictures: Mapping[str, Sequence[str]]) -> str:
    """`pictures` are files beside the page, by `title` of the protocol they show."""
    lines = [
        "# Continual learning",
        "",
        "`hyperserve evaluate continual`: every method of a table learns the same stream tasks, with the same main "
        "network, number of steps and optimiser. Accuracies in per cent.",
        "",
        "- final: mean over stream tasks after the last; ±: half of the 95 % interval of Student's t over training "
        "seeds (order of examples, initial parameters, and permutations), in brackets their standard deviation",
        "- just learned: mean over stream tasks that were asked right after they were learned",
        "- forgotten: mean over stream tasks asked before the last was learned of their best accuracy then, minus the "
        "final one",
        "- task found: share of queries whose stream task was inferred, after the last",
        "- s a task: seconds of CPU (by the clock on a GPU) to register one, mean, and first → last",
        "- kept: all that stays after the last",
        "- reported: 1906.00695, n = 20",
        "",
    ]
    for protocol, rows in groupby(summaries(records), _protocol):
        found = list(rows)
        name = title(*protocol)
        lines += [f"## {name}", "", f"{_TOLD[protocol[1]]}. {_said(found)}", ""]
        lines += [text for note in NOTES.get((protocol[0], protocol[4]), ()) for text in (note, "")]
        lines += [*table([_cells(row) for row in found]), ""]
        lines += [
            "Settings:",
            "",
            *(f"- {row['method']}: {_hparams(row)}" for row in found if row["hparams"]),
            "",
        ]
        lines += [f"![{name}]({picture})\n" for picture in pictures.get(name, ())]
    commands = sorted({record.command for record in records if record.command})
    return "\n".join([*lines, "## Commands", "", *(f"    {command}" for command in commands), ""])


def title(benchmark: str, scenario: str, tasks: int, held_out: int, target: str) -> str:
    of = f", on {held_out:,} training examples held out" if held_out else ""
    network = "" if target == "mlp" else f" {target},"
    return f"{benchmark},{network} {tasks} tasks, {scenario.upper()}{of}"


def interval(values: Sequence[float]) -> Row:
    """`ci95` and `std` are None where there is one value."""
    n = len(values)
    mean = math.fsum(values) / n
    if n == 1:
        return {"mean": mean, "ci95": None, "std": None, "n": n}
    std = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    t = float(stdtrit(n - 1, 0.975))
    return {"mean": mean, "ci95": t * std / math.sqrt(n), "std": std, "n": n}


def _summary(found: list[Record]) -> Row:
    run = found[0].run
    inferred = [record.inferred for record in found if record.inferred is not None]
    figure = reported(run.benchmark, run.tasks, run.scenario, run.method)
    final = interval([record.final for record in found])
    return {
        **run.model_dump(mode="json", exclude={"seed"}),
        "seeds": [record.run.seed for record in found],
        "final": final,
        "just_learned": interval([record.just_learned for record in found]),
        "forgotten": interval([record.forgetting() for record in found]),
        "task_found": interval(inferred) if inferred else None,
        "device": found[0].device,
        "cpu_seconds": _mean(record.cpu_seconds for record in found),
        "clock_seconds": _mean(record.seconds for record in found),
        "kept_bytes": _mean(record.kept_bytes for record in found),
        "test_examples": list(found[0].test_examples),
        "reported": figure,
        "difference": None if figure is None else 100 * final["mean"] - figure,
    }


def _mean(rows: Iterable[Sequence[float]]) -> list[float]:
    return [sum(values) / len(values) for values in zip(*rows, strict=True)]


def _protocol(row: Row) -> tuple[str, str, int, int, str]:
    return row["benchmark"], row["scenario"], row["tasks"], row["held_out"], row["target"]


def _said(rows: Sequence[Row]) -> str:
    """What is the same for all rows is said once."""
    first = rows[0]
    tests = first["test_examples"]
    size = f"{min(tests):,}" if min(tests) == max(tests) else f"{min(tests):,} to {max(tests):,}"
    names = () if first["target"] == "mlp" else (first["target"],)
    network = " ".join((*names, "-".join(map(str, first["hidden"])))).strip()
    return (
        f"Main network {network}; {size} test examples a stream task. Steps a stream task × examples "
        "a step, with Adam; ramp: its rate rises over a tenth of them, then falls to zero."
    )


def _cells(row: Row) -> Row:
    # A processor that waits for a GPU has done nothing.
    seconds = row["cpu_seconds" if row["device"] == "cpu" else "clock_seconds"]
    reported_, difference = row["reported"], row["difference"]
    return {
        "method": row["method"] + ("" if row["device"] == "cpu" else f" ({row['device']})"),
        "final": _estimate(row["final"]),
        "forgotten": f"{100 * row['forgotten']['mean']:.2f}",
        "just learned": f"{100 * row['just_learned']['mean']:.2f}",
        "task found": _estimate(row["task_found"]) if row["task_found"] else _NONE,
        "reported": _NONE if reported_ is None else f"{reported_:.2f}",
        "difference": _NONE if difference is None else f"{difference:+.2f}",
        "s a task": f"{sum(seconds) / len(seconds):.1f} ({seconds[0]:.1f} → {seconds[-1]:.1f})",
        "kept, MB": f"{row['kept_bytes'][-1] / 1e6:.1f}",
        "steps": f"{row['iterations']:,} × {row['batch']}",
        "rate": f"{row['lr']:g}, {row['schedule']}",
        "seeds": len(row["seeds"]),
    }


def _hparams(row: Row) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in row["hparams"].items())


def _estimate(found: Row) -> str:
    if found["ci95"] is None:
        return f"{100 * found['mean']:.2f}"
    return f"{100 * found['mean']:.2f} ± {100 * found['ci95']:.2f} ({100 * found['std']:.2f})"
