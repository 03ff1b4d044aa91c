"""Records of continual learning as a page of tables: a row per method, with means and intervals over training seeds."""

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
_SCENARIOS = {
    "cl1": "CL1: the stream task is given, and each has its own output head",
    "cl2": "CL2: one head and one set of labels, and the stream task is not given",
    "cl3": "CL3: all labels differ, and the stream task must be inferred",
}
_UNKNOWN = (
    "Share of own test examples called unknown (`unknown` above 0.5), and AUROC of `unknown` between them and examples "
    "of classes that no stream task has yet:"
)
SummaryRow = dict[str, Any]


def summaries(records: Sequence[Record]) -> list[SummaryRow]:
    """Return a row for each method, setting and protocol, best first within a protocol. Accuracies are from 0 to 1."""
    rows = [_summary(seeds) for seeds in settings(records)]
    return sorted(rows, key=lambda row: (*_protocol(row), -row["final"]["mean"]))


def settings(records: Sequence[Record]) -> list[list[Record]]:
    """Group records that differ only in their seed and were made on one kind of device."""

    def key(record: Record) -> str:
        return record.run.model_copy(update={"seed": 0}).model_dump_json() + record.device

    return [
        list(group) for _, group in groupby(sorted(records, key=lambda one: (key(one), one.run.seed)), key)
    ]


def page(records: Sequence[Record], pictures: Mapping[str, Sequence[str]]) -> str:
    """Return the page. `pictures` are files beside it, by the `title` of the protocol they show."""
    lines = [
        "# Continual learning",
        "",
        "`hyperserve evaluate continual`: every method of a table learns the same stream tasks with the same main "
        "network, number of steps and optimiser. Accuracies are in per cent.",
        "",
        "- final: mean accuracy over stream tasks after the last; ±: half-width of the 95 % interval of Student's t "
        "over training seeds (order of examples, initial parameters, permutations); in brackets the standard deviation",
        "- just learned: mean accuracy over stream tasks evaluated right after they were learned",
        "- forgetting: best accuracy of a stream task before the last was learned minus its final one, averaged over "
        "tasks",
        "- task inferred: share of queries whose stream task was inferred correctly, after the last",
        "- s per task: CPU seconds (wall-clock seconds on a GPU) to register a task: mean (first → last)",
        "- stored: size of everything stored after the last task",
        "- reported: 1906.00695, n = 20",
        "",
    ]
    for protocol, rows in groupby(summaries(records), _protocol):
        table_rows = list(rows)
        name = title(*protocol)
        lines += [f"## {name}", "", f"{_SCENARIOS[protocol[1]]}. {_common_settings(table_rows)}", ""]
        lines += [text for note in NOTES.get((protocol[0], protocol[4]), ()) for text in (note, "")]
        lines += [*table([_cells(row) for row in table_rows]), ""]
        lines += [
            "Settings:",
            "",
            *(f"- {_method(row)}: {_hparams(row)}" for row in table_rows if row["hparams"]),
            "",
        ]
        unknown = [cells for row in table_rows if row["unknown"] for cells in _unknown_cells(row)]
        if unknown:
            lines += [_UNKNOWN, "", *table(unknown), ""]
        lines += [f"![{name}]({picture})\n" for picture in pictures.get(name, ())]
    commands = sorted({record.command for record in records if record.command})
    return "\n".join([*lines, "## Commands", "", *(f"    {command}" for command in commands), ""])


def title(benchmark: str, scenario: str, tasks: int, held_out: int, target: str) -> str:
    """Return the heading of a protocol."""
    measured_on = f", on {held_out:,} training examples held out" if held_out else ""
    network = "" if target == "mlp" else f" {target},"
    return f"{benchmark},{network} {tasks} tasks, {scenario.upper()}{measured_on}"


def interval(values: Sequence[float]) -> SummaryRow:
    """Return mean, half-width of the 95 % interval of Student's t, and deviation; the last two are None for one
    value."""
    n = len(values)
    mean = math.fsum(values) / n
    if n == 1:
        return {"mean": mean, "ci95": None, "std": None, "n": n}
    std = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    t = float(stdtrit(n - 1, 0.975))
    return {"mean": mean, "ci95": t * std / math.sqrt(n), "std": std, "n": n}


def _summary(seeds: list[Record]) -> SummaryRow:
    run = seeds[0].run
    inferred = [record.inferred for record in seeds if record.inferred is not None]
    figure = reported(run.benchmark, run.tasks, run.scenario, run.method)
    final = interval([record.final for record in seeds])
    return {
        **run.model_dump(mode="json", exclude={"seed"}),
        "seeds": [record.run.seed for record in seeds],
        "final": final,
        "just_learned": interval([record.just_learned for record in seeds]),
        "forgotten": interval([record.forgetting() for record in seeds]),
        "task_found": interval(inferred) if inferred else None,
        "device": seeds[0].device,
        "cpu_seconds": _mean(record.cpu_seconds for record in seeds),
        "clock_seconds": _mean(record.seconds for record in seeds),
        "kept_bytes": _mean(record.kept_bytes for record in seeds),
        "test_examples": list(seeds[0].test_examples),
        "unknown": _unknown(seeds),
        "reported": figure,
        "difference": None if figure is None else 100 * final["mean"] - figure,
    }


def _unknown(seeds: list[Record]) -> list[SummaryRow] | None:
    """Return for each evaluation the share of own test examples called unknown, and the AUROC against foreign ones."""
    if any(record.unknown is None for record in seeds):
        return None
    rows = []
    for index, tasks in enumerate(map(len, seeds[0].accuracy)):
        share = interval([record.unknown[index] for record in seeds if record.unknown is not None])
        found = [record.foreign_auroc[index] for record in seeds if record.foreign_auroc is not None]
        scores = [score for score in found if score is not None]
        rows.append({"tasks": tasks, "own": share, "auroc": interval(scores) if scores else None})
    return rows


def _mean(rows: Iterable[Sequence[float]]) -> list[float]:
    return [sum(values) / len(values) for values in zip(*rows, strict=True)]


def _protocol(row: SummaryRow) -> tuple[str, str, int, int, str]:
    return row["benchmark"], row["scenario"], row["tasks"], row["held_out"], row["target"]


def _common_settings(rows: Sequence[SummaryRow]) -> str:
    """Return the settings that all rows share, in words."""
    first = rows[0]
    tests = first["test_examples"]
    size = f"{min(tests):,}" if min(tests) == max(tests) else f"{min(tests):,} to {max(tests):,}"
    names = () if first["target"] == "mlp" else (first["target"],)
    network = " ".join((*names, "-".join(map(str, first["hidden"])))).strip()
    return (
        f"Main network {network}; {size} test examples per stream task. Steps per stream task × examples "
        "per step, with Adam; ramp: the rate rises over a tenth of the steps, then falls to zero."
    )


def _cells(row: SummaryRow) -> SummaryRow:
    # While waiting for a GPU, the CPU does no work.
    seconds = row["cpu_seconds" if row["device"] == "cpu" else "clock_seconds"]
    reported_, difference = row["reported"], row["difference"]
    return {
        "method": _method(row),
        "final": _estimate(row["final"]),
        "forgetting": f"{100 * row['forgotten']['mean']:.2f}",
        "just learned": f"{100 * row['just_learned']['mean']:.2f}",
        "task inferred": _estimate(row["task_found"]) if row["task_found"] else _NONE,
        "reported": _NONE if reported_ is None else f"{reported_:.2f}",
        "difference": _NONE if difference is None else f"{difference:+.2f}",
        "s per task": f"{sum(seconds) / len(seconds):.1f} ({seconds[0]:.1f} → {seconds[-1]:.1f})",
        "stored, MB": f"{row['kept_bytes'][-1] / 1e6:.1f}",
        "steps": f"{row['iterations']:,} × {row['batch']}",
        "rate": f"{row['lr']:g}, {row['schedule']}",
        "seeds": len(row["seeds"]),
    }


def _unknown_cells(row: SummaryRow) -> list[SummaryRow]:
    return [
        {
            "method": _method(row),
            "stream tasks": found["tasks"],
            "own called unknown": _estimate(found["own"]),
            "AUROC": _NONE if found["auroc"] is None else _estimate(found["auroc"]),
        }
        for found in row["unknown"]
    ]


def _method(row: SummaryRow) -> str:
    encoder = f", features of {row['encoder']}" if row.get("encoder") else ""
    return f"{row['method']}{encoder}" + ("" if row["device"] == "cpu" else f" ({row['device']})")


def _hparams(row: SummaryRow) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in row["hparams"].items())


def _estimate(value: SummaryRow) -> str:
    if value["ci95"] is None:
        return f"{100 * value['mean']:.2f}"
    return f"{100 * value['mean']:.2f} ± {100 * value['ci95']:.2f} ({100 * value['std']:.2f})"
