"""Regression tasks as they are sent: examples with a target, which is a vector of numbers, in place of a label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from app.http.limits import LIMITS
from app.http.problems import Fault, ProblemError, fail, pointer
from app.payloads.support import Aim, Location, Sent, SentSupport, Target, check_examples
from app.serving.types import Targets
from models.inputs import InputError, Vector

_FIELDS = ("input", "target")
_LABELLED = "Labels make a classification task; an example of a regression task has a target."


def pairs_from_json(value: object, length: int | None = None) -> SentSupport:
    """Examples with targets of one length, the given one if there is one. Raises `ProblemError` 422."""
    if isinstance(value, Mapping):
        raise fail("wrong_task_kind", "A regression task is a list of inputs with targets.", "/support")
    if not isinstance(value, list):
        raise fail("wrong_type", 'The examples are a list of {"input": x, "target": [y]}.', "/support")
    if not value:
        raise fail("empty_support", "There are no examples.", "/support", 1)
    check_examples(len(value))
    examples: list[Sent] = []
    targets: list[Target] = []
    faults: list[Fault] = []
    for index, item in enumerate(value):
        location = ("support", index)
        if wrong := _misshapen(item, location):
            faults += wrong
            continue
        try:
            targets.append(target_from_json(item["target"], (*location, "target"), length))
        except ProblemError as problem:
            faults += problem.faults
            continue
        length = length or len(targets[0])
        examples.append(Sent(_vector(item["input"]), (*location, "input")))
    if faults:
        raise ProblemError(faults)
    return SentSupport((), (), tuple(examples), tuple(targets))


def target_from_json(value: object, location: Location, length: int | None = None) -> Target:
    """As it was sent; a bare number is a vector of one. Raises `ProblemError` 422."""
    where, limit = pointer(location), LIMITS.target_length
    numbers: list[Any] = value if isinstance(value, list) else [value]
    if not numbers:
        raise fail("target_length", "A target needs at least one number.", where, length or 1)
    if len(numbers) > limit:
        raise fail("target_too_long", f"A target may hold {limit} numbers.", where, limit)
    if isinstance(value, (dict, str, bool)) or value is None:
        raise fail("wrong_type", "A target is a list of numbers, or one number.", where)
    try:
        Vector.of(numbers)
    except InputError as error:
        detail = error.detail.replace("A vector", "A target")
        raise fail(error.code, detail, where, error.limit) from None
    if length is not None and len(numbers) != length:
        detail = f"The target has {len(numbers)} numbers where {length} are expected."
        raise fail("target_length", detail, where, length)
    return tuple(map(float, numbers))


def targets_from_json(value: object, queries: int, length: int) -> npt.NDArray[np.float64]:
    """One for each query, [queries, length]. Raises `ProblemError` 422."""
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


def inputs_of(queries: Sequence[Sent]) -> tuple[Sent, ...]:
    """Queries of a regression task, where a bare number is a vector of one."""
    return tuple(Sent(_vector(sent.value), sent.location) for sent in queries)


def goals(aims: Sequence[Aim], classes: Sequence[str]) -> Targets:
    """What the learner takes for the labels of examples, or for their targets."""
    if aims[0][1] is not None:
        return np.asarray([target for _, target in aims], dtype=np.float32)
    index = {label: position for position, label in enumerate(classes)}
    return np.array([index[label] for label, _ in aims], dtype=np.int64)


def aim_key(aim: Aim) -> str:
    """Equal for equal labels, or for equal targets, as the learner sees them."""
    label, target = aim
    return label if target is None else np.asarray(target, dtype="<f4").tobytes().hex()


def _misshapen(item: object, location: Location) -> list[Fault]:
    if not isinstance(item, dict):
        return [Fault("wrong_type", 'An example is {"input": x, "target": [y]}.', pointer(location))]
    if "label" in item:
        return [Fault("wrong_task_kind", _LABELLED, pointer((*location, "label")))]
    missing = [
        Fault("missing", "The field is required.", pointer((*location, name)))
        for name in _FIELDS
        if name not in item
    ]
    unknown = [
        Fault("unknown_field", "There is no such field.", pointer((*location, name)))
        for name in item
        if name not in _FIELDS
    ]
    return missing + unknown


def _vector(value: object) -> object:
    return [value] if isinstance(value, (int, float)) and not isinstance(value, bool) else value
