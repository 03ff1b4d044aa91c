"""The table of `experiments.fewshot.family_table` as a Markdown page, with accuracies in per cent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from experiments.fewshot.omniglot_emnist_protocol import SHOTS
from experiments.fewshot.reported_emnist import FIELD, FINE_TUNED, OTHERS
from experiments.fewshot.uncertainty import FRACTIONS

_NONE = "–"
LearnerRow = dict[str, Any]


def page(result: LearnerRow, pictures: Sequence[str] = ()) -> str:
    """Return the page. `pictures` are files of reliability diagrams beside it."""
    family = result["family"]
    lines = [
        "# omniglot-emnist: the family",
        "",
        *(
            f"- {name}: {result[name]}"
            for name in ("protocol", "tasks", "images", "device")
            if name in result
        ),
        "- ±: 95 % interval over tasks; in brackets the standard deviation over the seeds of the tasks",
        "- reported: by the papers, whose ± is over training runs; on the open track the best of the field",
        f"- pairs of values are for {' / '.join(map(str, SHOTS))} shots",
        "",
        "## Accuracy",
        "",
        *_table(ACCURACY, family),
        "",
        "*Difference* is ours minus the reported figure, in the BatchNorm mode of the report. *Transductive* lets "
        "BatchNorm use the statistics of all queries of a task together; it is not served and not used for ranking, "
        "and our encoders were trained with statistics of batches of several tasks. *Renamed*: share of labels that "
        "change, and change of accuracy in points, when the classes get other names.",
        "",
        "## Uncertainty",
        "",
        *_table(UNCERTAINTY, family),
        "",
        "## Stochastic methods",
        "",
        *(
            _table(STOCHASTIC, [row for row in family if row["cells"][0]["epistemic"]])
            or ["None of these learners is stochastic."]
        ),
        "",
        "*Mean weights*: accuracy of the posterior mean alone, as in the papers on Bayesian methods; the "
        "other columns average probabilities over samples. *Ratio*: disagreement between redrawn support sets divided "
        "by the epistemic uncertainty of the learner; 1 is ideal.",
        "",
        *(f"![Reliability diagram {picture}]({picture})\n" for picture in pictures),
        "## Reported figures, not measured here",
        "",
        "| method | 1-shot | 5-shot | source |",
        "|---|---|---|---|",
        *(
            f"| {row.name} | {_percent(row.one_shot)} | {_percent(row.five_shot)} | {row.source} |"
            for row in (*OTHERS, FINE_TUNED, FIELD)
        ),
        "",
    ]
    if result["left_out"]:
        lines += [
            "## Left out",
            "",
            *(f"- {row['learner']}: {row['reason']}" for row in result["left_out"]),
            "",
        ]
    return "\n".join(lines)


def _percent(value: float | None) -> str:
    return _NONE if value is None else f"{100 * value:.2f}"


def _signed(value: float | None) -> str:
    return _NONE if value is None else f"{100 * value:+.2f}"


def _estimate(value: LearnerRow | None) -> str:
    return _NONE if value is None else f"{100 * value['mean']:.2f} ± {100 * value['ci95']:.2f}"


def _shots(read: Callable[[LearnerRow], str]) -> Callable[[LearnerRow], str]:
    """Return a reader of a value of each cell, at 1 and at 5 shots."""

    def both(row: LearnerRow) -> str:
        cells = {cell["shot"]: cell for cell in row["cells"]}
        return " / ".join(read(cells[shot]) if shot in cells else _NONE for shot in SHOTS)

    return both


def _accuracy(shot: int) -> Callable[[LearnerRow], str]:
    def one(row: LearnerRow) -> str:
        for cell in row["cells"]:
            if cell["shot"] == shot:
                return f"{_estimate(cell['accuracy'])} ({_percent(cell['std_over_seeds'])})"
        return _NONE

    return one


def _of(name: str, inner: str, show: Callable[[Any], str]) -> Callable[[LearnerRow], str]:
    """Return a reader of a value in a part that a cell may lack."""
    return lambda cell: _NONE if cell[name] is None else show(cell[name][inner])


def _sets(index: int) -> Callable[[LearnerRow], str]:
    def one(cell: LearnerRow) -> str:
        found = cell["sets"][index]
        return f"{_percent(found['coverage']['mean'])} ({found['mean_size']:.2f})"

    return one


def _answered(index: int) -> Callable[[LearnerRow], str]:
    return lambda cell: _percent(cell["answered"][index]["accuracy"])


def _renamed(cell: LearnerRow) -> str:
    found = cell["renamed"]
    if found is None:
        return "0"
    return f"{_percent(found['labels_changed']['mean'])} ({_signed(found['accuracy_difference']['mean'])})"


_LEARNER: dict[str, Callable[[LearnerRow], str]] = {"learner": lambda row: row["learner"]}
ACCURACY: dict[str, Callable[[LearnerRow], str]] = {
    **_LEARNER,
    "method": lambda row: row["method"],
    "track": lambda row: row["track"],
    "1-shot": _accuracy(1),
    "5-shot": _accuracy(5),
    "case and l/1 merged": _shots(lambda cell: _percent(cell["case_merged"]["mean"])),
    "reported": _shots(_of("reported", "as_reported", _percent)),
    "difference": _shots(_of("reported", "difference_in_its_mode", _signed)),
    "transductive": _shots(_of("transductive", "accuracy", _estimate)),
    "renamed": _shots(_renamed),
    "digest": lambda row: row["digest"],
    "seconds (of CPU)": lambda row: f"{row['seconds']} ({row['cpu_seconds']})",
}
UNCERTAINTY: dict[str, Callable[[LearnerRow], str]] = {
    **_LEARNER,
    "ECE": _shots(lambda cell: _percent(cell["ece"])),
    "ECE, mean": lambda row: _percent(row["ece_mean_over_cells"]),
    "NLL": _shots(lambda cell: f"{cell['nll']['mean']:.3f}"),
    "Brier": _shots(lambda cell: f"{cell['brier']:.3f}"),
    "unknown AUROC, pooled": _shots(_of("unknown", "auroc_pooled", _percent)),
    "per task": _shots(_of("unknown", "auroc_per_task", lambda value: _percent(value["mean"]))),
    "90 % sets: coverage (size)": _shots(_sets(0)),
    "99 % sets": _shots(_sets(1)),
    **{
        f"accuracy of the most confident {fraction:.0%}": _shots(_answered(index))
        for index, fraction in enumerate(FRACTIONS)
        if fraction < 1
    },
}
STOCHASTIC: dict[str, Callable[[LearnerRow], str]] = {
    **_LEARNER,
    "samples averaged": _shots(lambda cell: _percent(cell["accuracy"]["mean"])),
    "mean weights": _shots(lambda cell: _estimate(cell["mean_weights_accuracy"])),
    "epistemic, nats": _shots(_of("epistemic", "mean_epistemic", lambda value: f"{value:.4f}")),
    "disagreement": _shots(_of("epistemic", "mean_disagreement", lambda value: f"{value:.4f}")),
    "ratio": _shots(_of("epistemic", "ratio", lambda value: f"{value:.2f}")),
    "rank correlation": _shots(_of("epistemic", "spearman", lambda value: f"{value:.2f}")),
}


def _table(columns: dict[str, Callable[[LearnerRow], str]], rows: Sequence[LearnerRow]) -> list[str]:
    if not rows:
        return []
    return [
        "| " + " | ".join(columns) + " |",
        "|" + "---|" * len(columns),
        *("| " + " | ".join(read(row) for read in columns.values()) + " |" for row in rows),
    ]
