"""Regression tasks as clients submit them: an example has a target, a vector of numbers, in place of a label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from app.http.limits import LIMITS
from app.http.problems import Fault, ProblemError, fail, pointer
from app.payloads.support import (
    GroundTruth,
    Location,
    SubmittedInput,
    SubmittedSupport,
    Target,
    check_examples,
    field_faults,
)
from app.serving.engine_types import Targets
from models.inputs import InputError, Vector

_HAS_LABEL = "An example of a regression task has a target, not a label."


def regression_support_from_json(value: object, length: int | None = None) -> SubmittedSupport:
    """Return examples with targets of one length: the given one, or that of the first. Raises `ProblemError` 422."""
    if isinstance(value, Mapping):
        raise fail("wrong_task_kind", "A regression task is a list of inputs with targets.", "/support")
    if not isinstance(value, list):
        raise fail("wrong_type", 'The examples are a list of {"input": x, "target": [y]}.', "/support")
    if not value:
        raise fail("empty_support", "There are no examples.", "/support", 1)
    check_examples(len(value))
    inputs: list[SubmittedInput] = []
    targets: list[Target] = []
    faults: list[Fault] = []
    for index, item in enumerate(value):
        location = ("support", index)
        if wrong := _example_faults(item, location):
            faults += wrong
            continue
        try:
            targets.append(target_from_json(item["target"], (*location, "target"), length))
        except ProblemError as problem:
            faults += problem.faults
            continue
        length = length or len(targets[0])
        inputs.append(SubmittedInput(_vector(item["input"]), (*location, "input")))
    if faults:
        raise ProblemError(faults)
    return SubmittedSupport(tuple(inputs), targets=tuple(targets))


def target_from_json(value: object, location: Location, length: int | None = None) -> Target:
    """Return a target as it was submitted; a bare number is a vector of one. Raises `ProblemError` 422."""
    where, limit = pointer(location), LIMITS.target_length
    numbers: list[Any] = value if isinstance(value, list) else [value]
    if not numbers:
        raise fail("target_length", "A target needs at least one number.", where, length or 1)
    if len(numbers) > limit:
        raise fail("target_too_long", f"A target has at most {limit} numbers.", where, limit)
    if isinstance(value, (dict, str, bool)) or value is None:
        raise fail("wrong_type", "A target is a list of numbers, or one number.", where)
    try:
        Vector.of(numbers)
    except InputError as error:
        detail = error.detail.replace("A vector", "A target")
        raise fail(error.code, detail, where, error.limit) from None
    if length is not None and len(numbers) != length:
        detail = f"The target has {len(numbers)} numbers; the task's targets have {length}."
        raise fail("target_length", detail, where, length)
    return tuple(map(float, numbers))


def targets_from_json(value: object, queries: int, length: int) -> npt.NDArray[np.float64]:
    """Return a target for each query, [queries, length]. Raises `ProblemError` 422."""
    if not isinstance(value, list):
        raise fail("wrong_type", "Targets are a list, one for each query.", "/targets")
    if len(value) != queries:
        detail = f"There are {len(value)} targets for {queries} queries."
        raise fail("targets_count", detail, "/targets", queries)
    targets: list[Target] = []
    faults: list[Fault] = []
    for index, item in enumerate(value):
        try:
            targets.append(target_from_json(item, ("targets", index), length))
        except ProblemError as problem:
            faults += problem.faults
    if faults:
        raise ProblemError(faults)
    return np.asarray(targets)


def regression_queries(queries: Sequence[SubmittedInput]) -> tuple[SubmittedInput, ...]:
    """Return the queries of a regression task, in which a bare number is a vector of one."""
    return tuple(SubmittedInput(_vector(query.value), query.location) for query in queries)


def learner_targets(truths: Sequence[GroundTruth], classes: Sequence[str]) -> Targets:
    """Return y of a support set: indices into `classes`, or [n, target]."""
    if truths[0].target is not None:
        return np.asarray([truth.target for truth in truths], dtype=np.float32)
    index = {label: position for position, label in enumerate(classes)}
    return np.array([index[truth.label] for truth in truths], dtype=np.int64)


def truth_key(truth: GroundTruth) -> str:
    """Return a text that is equal for equal labels, or for targets that are equal to a learner."""
    if truth.target is None:
        return truth.label
    return np.asarray(truth.target, dtype="<f4").tobytes().hex()


def _example_faults(item: object, location: Location) -> list[Fault]:
    if not isinstance(item, dict):
        return [Fault("wrong_type", 'An example is {"input": x, "target": [y]}.', pointer(location))]
    if "label" in item:
        return [Fault("wrong_task_kind", _HAS_LABEL, pointer((*location, "label")))]
    return field_faults(item, ("input", "target"), location)


def _vector(value: object) -> object:
    return [value] if isinstance(value, (int, float)) and not isinstance(value, bool) else value
