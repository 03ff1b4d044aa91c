"""The page of a data set that nobody here has seen, as Markdown whose tables are also readable in a console."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

Result = dict[str, Any]
_NONE = "–"
_PLACES = {"best": 1, "learner": 2}
_READ_AS = {
    "embedding": "rows of unit length (features of encoders are scaled to it)",
    "table": "columns of a table, standardised by the support set",
    "pixels": "pixels in [0, 1] on 32×32, the square in the middle",
}
_EXPLANATION = (
    "Intervals are 95 % over tasks; all learners and baselines answer the same tasks. C of logistic regression is "
    "chosen by cross-validation in the support set from 0.1, 1, 10, 100, and is 1 at one shot. Probabilities of the "
    "SVM are the softmax of its decision values, those of kernel ridge the softmax of its scores times a factor "
    "chosen by leave-one-out likelihood. “best” is the best baseline of each cell and measure, chosen after the fact."
)


def page(result: Result) -> str:
    """Return the page of one data set."""
    cells = result["cells"]
    learners = list(dict.fromkeys(name for cell in cells for name in cell["learners"]))
    lines = [f"# {result['data']}", "", *_facts(result), "", _EXPLANATION, ""]
    for title, key, form in (
        ("Accuracy, %", "accuracy", _percent),
        ("NLL, nats", "nll", _nats),
        ("Calibration error of the label, %", "ece", _percent),
        ("Brier score of the label", "brier", _plain),
    ):
        lines += [f"## {title}", "", *_scores(cells, learners, key, form), ""]
    for title, key, form in (
        ("Accuracy: learner − other, points", "accuracy", _points),
        ("NLL: learner − other, nats", "nll", _signed_nats),
    ):
        lines += [f"## {title}", "", *_differences(cells, key, form), ""]
    lines += ["## Uncertainty", "", *_uncertainty(cells, learners), ""]
    return "\n".join(lines)


def _facts(result: Result) -> Iterator[str]:
    yield f"- learners: {', '.join(result['learners'])}"
    yield (
        f"- {result['examples']} {result['inputs']} of {result['classes']} classes, "
        f"{result['smallest_class']} to {result['largest_class']} each"
    )
    for space in result["feature_spaces"]:
        yield f"- {space['name']}: {space['numbers']} numbers, {_READ_AS[space['read_as']]}"
    tasks = ", ".join(
        f"{_name(cell)} {cell['tasks']}×{cell['queries_per_class']}" for cell in result["cells"]
    )
    yield f"- tasks × queries a class: {tasks}; seed {result['seed']}"
    yield from (f"- {note}" for note in result["notes"])
    yield f"- `{result['command']}`, {result['versions']}"


def _name(cell: Result) -> str:
    return f"{cell['way']}w{cell['shot']}s"


def _scores(
    cells: Sequence[Result], learners: Sequence[str], key: str, form: Callable[[Any], str]
) -> list[str]:
    rows = [
        [f"**{name}**", *(form(cell["learners"].get(name, {}).get(key)) for cell in cells)]
        for name in learners
    ]
    for index, baseline in enumerate(cells[0]["baselines"]):
        title = f"{baseline['baseline']}, {baseline['features']}"
        rows.append([title, *(form(cell["baselines"][index][key]) for cell in cells)])
    kept = [row for row in rows if any(value != _NONE for value in row[1:])]
    return table(["", *map(_name, cells)], kept)


def _differences(cells: Sequence[Result], key: str, form: Callable[[Any], str]) -> list[str]:
    """Return a row for each learner and other, the best baseline and other learners after the baselines."""
    found: dict[tuple[str, int, str], dict[str, str]] = {}
    for cell in cells:
        for row in cell["differences"]:
            place = _PLACES.get(row["against"], 0)
            other = (
                f"{row['against']}, {row['features']}",
                "**best baseline**",
                f"learner {row['features']}",
            )[place]
            found.setdefault((row["learner"], place, other), {})[_name(cell)] = form(row[key])
    learners = list(dict.fromkeys(learner for learner, _, _ in found))
    ordered = sorted(found.items(), key=lambda entry: (learners.index(entry[0][0]), entry[0][1]))
    names = [_name(cell) for cell in cells]
    rows = [
        [learner, other, *(by_cell.get(name, _NONE) for name in names)]
        for (learner, _, other), by_cell in ordered
    ]
    kept = [row for row in rows if any(value != _NONE for value in row[2:])]
    return table(["learner", "other", *names], kept)


def _uncertainty(cells: Sequence[Result], learners: Sequence[str]) -> list[str]:
    heading = [
        "learner", "cell", "sets at 90 %: held", "size", "tasks < 80 %", "unknown > 0.5: known", "foreign",
        "AUROC pooled", "per task", "ECE", "Brier", "gold ratio", "Spearman", "fit: mean", "5 … 50 … 95 %",
    ]  # fmt: skip
    rows = []
    for name in learners:
        for cell in cells:
            if (row := cell["learners"].get(name)) is None:
                continue
            unknown, epistemic, fit = row["unknown"] or {}, row["epistemic"] or {}, row["fit"]
            sets = row["sets"]
            rows.append(
                [
                    name, _name(cell), _percent(sets["coverage"]), f"{sets['mean_size']:.2f}",
                    _percent(sets["tasks_under_80_percent"]), _percent(unknown.get("known_refused")),
                    _percent(unknown.get("foreign_refused")), _plain(unknown.get("auroc_pooled")),
                    _plain(unknown.get("auroc_per_task")), _percent(unknown.get("ece")),
                    _plain(unknown.get("brier")), _plain(epistemic.get("ratio")),
                    _plain(epistemic.get("spearman")), _plain(fit and fit["mean"]),
                    _NONE if fit is None
                    else " … ".join(f"{fit['quantiles'][share]:.2f}" for share in ("0.05", "0.5", "0.95")),
                ]
            )  # fmt: skip
    note = (
        "`unknown` is measured with a third of the classes held out, others in each task, and half of the queries of "
        "them (at most two thirds of the ways); the gold ratio is the disagreement of redrawn support sets over the "
        "learner's epistemic part, and 1 is right."
    )
    return [note, "", *table(heading, rows)]


def _percent(value: Any) -> str:
    return _shown(value, 100, 1)


def _points(value: Any) -> str:
    return _shown(value, 100, 1, "+")


def _nats(value: Any) -> str:
    return _shown(value, 1, 3)


def _signed_nats(value: Any) -> str:
    return _shown(value, 1, 3, "+")


def _plain(value: Any) -> str:
    return _shown(value, 1, 3)


def _shown(value: Any, factor: float, digits: int, sign: str = "") -> str:
    """Return a number, an estimate with its interval, or a dash for None."""
    if value is None:
        return _NONE
    if isinstance(value, dict):
        return f"{factor * value['mean']:{sign}.{digits}f} ± {factor * value['ci95']:.{digits}f}"
    return f"{factor * value:{sign}.{digits}f}"


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a Markdown table whose columns are padded to one width."""
    widths = [max(map(len, column)) for column in zip(heading, *rows, strict=True)]

    def line(values: Sequence[str]) -> str:
        return (
            "| " + " | ".join(value.ljust(width) for value, width in zip(values, widths, strict=True)) + " |"
        )

    return [line(heading), "|" + "|".join("-" * (width + 2) for width in widths) + "|", *map(line, rows)]
