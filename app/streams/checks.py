"""Whether a labelled set can be registered into a stream, as far as can be told before its file is read."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence

from app.db.tables import DatasetRow
from app.http.limits import LIMITS
from app.http.problems import fail
from models.continual.config import Scenario, StreamConfig
from models.inputs import VectorInput

VALUES_MOST = 1 << 30
"""Numbers of all inputs of a set together: a worker has them in memory at once."""


def check_kind(config: StreamConfig, dataset: DatasetRow) -> None:
    """Raises `ProblemError` 422 for a set of other inputs than the stream takes."""
    if dataset.kind != config.input.kind:
        detail = f"The stream takes {config.input.kind}s; the dataset holds {dataset.kind}s."
        raise fail("dataset_mismatch", detail, "/dataset")
    if isinstance(config.input, VectorInput) and dataset.shape != [config.input.dim]:
        length = None if dataset.shape is None else dataset.shape[0]
        detail = f"The stream takes vectors of {config.input.dim} numbers; the dataset's have {length}."
        raise fail("dataset_mismatch", detail, "/dataset", config.input.dim)


def choose(dataset: DatasetRow, classes: Sequence[str] | None) -> dict[str, int]:
    """The classes to register, in order, with how many examples each has. Raises `ProblemError` 422."""
    where = "/dataset" if classes is None else "/classes"
    chosen = list(dataset.classes) if classes is None else [unicodedata.normalize("NFC", c) for c in classes]
    for index, name in enumerate(chosen):
        if name not in dataset.classes:
            raise fail("unknown_class", "The dataset has no such class.", f"/classes/{index}")
        if name in chosen[:index]:
            raise fail("duplicate_label", "The class is named twice.", f"/classes/{index}")
        if dataset.classes[name] < 1:
            raise fail("empty_class", "The class has no examples.", where)
    if len(chosen) < LIMITS.ways_min:
        detail = f"A stream task needs at least {LIMITS.ways_min} classes."
        raise fail("single_class", detail, where, LIMITS.ways_min)
    if len(chosen) > LIMITS.ways_max:
        detail = f"A stream task has at most {LIMITS.ways_max} classes; choose some."
        raise fail("too_many_classes", detail, where, LIMITS.ways_max)
    return {name: dataset.classes[name] for name in chosen}


def check_size(config: StreamConfig, examples: int) -> None:
    """Raises `ProblemError` 413."""
    one = config.input.dim if isinstance(config.input, VectorInput) else config.input.size**2
    channels = getattr(config.input, "channels", 1)
    most = VALUES_MOST // max(channels * (one or 1), math.prod(config.shape))
    if examples > most:
        detail = f"There are {examples} examples; the stream takes at most {most} at once."
        raise fail("dataset_too_large", detail, "/dataset", most)


def ordered(
    scenario: Scenario, labels: Mapping[str, int], others: Mapping[str, Sequence[str]]
) -> dict[str, int]:
    """The labels as they are to be registered beside those of other stream tasks: in cl2 in the order of the first.

    Raises `ProblemError` 422 where they do not go together.
    """
    for other, theirs in others.items():
        if scenario == "cl2" and set(theirs) != set(labels):
            detail = f"In cl2 all stream tasks have the same labels; those of {other} are others."
            raise fail("label_clash", detail, "/classes")
        if scenario == "cl2":
            return {label: labels[label] for label in theirs}
        if scenario == "cl3" and (common := [label for label in labels if label in theirs]):
            detail = f"In cl3 labels are all different; {len(common)} of these are of {other} already."
            raise fail("label_clash", detail, "/classes")
    return dict(labels)
