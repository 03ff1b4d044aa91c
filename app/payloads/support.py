"""Support sets and queries as clients submit them: a map, a list, or parts; labels in NFC, order preserved.

Examples with targets in place of labels are read by `app.payloads.targets`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from app.http.limits import LIMITS
from app.http.multipart import Part
from app.http.problems import Fault, ProblemError, fail, pointer
from hyperserve import labels

QUERY_PART = "query"
OPTION_NAMES = frozenset(
    {"coverage", "kind", "learner", "name", "promote", "samples", "store", "task", "top", "version"}
)
"""Options of the requests that take parts; in a form they belong into the query string."""
_OPTION_BYTES = 1_000
WRONG_LABEL = "A label is a string, or a whole number up to 2^53."
WHOLE_MAX = 2**53
"""Up to here every reader of JSON keeps a whole number."""
_HAS_TARGET = (
    "An example of a classification task has a label, which is a string or a whole number; if it should have a target, "
    'add "kind": "regression" to the request.'
)
Location = tuple[str | int, ...]
Target = tuple[float, ...]


class GroundTruth(NamedTuple):
    """The right answer to an example: its label; in a regression task its target, and the label is empty."""

    label: str
    target: Target | None = None


@dataclass(frozen=True)
class SubmittedInput:
    """One x: a JSON value, or a part of a multipart body, and where it stood."""

    value: object
    location: Location


@dataclass(frozen=True)
class SubmittedSupport:
    """Inputs that are not decoded yet, with their labels or their targets.

    `labels` indexes `classes`; both are empty if there are `targets`.
    """

    inputs: tuple[SubmittedInput, ...]
    classes: tuple[str, ...] = ()
    labels: tuple[int, ...] = ()
    targets: tuple[Target, ...] = ()

    @property
    def truths(self) -> list[GroundTruth]:
        if self.targets:
            return [GroundTruth("", target) for target in self.targets]
        return [GroundTruth(self.classes[label]) for label in self.labels]

    @property
    def shots(self) -> list[int]:
        """Examples of each class; in a regression task the number of examples alone."""
        counts = Counter(self.labels)
        return [counts[index] for index in range(len(self.classes))] or [len(self.targets)]


_Labelled = tuple[str, SubmittedInput]


def support_from_json(value: object, ways_min: int = LIMITS.ways_min) -> SubmittedSupport:
    """Return a support set of at least `ways_min` classes. Raises `ProblemError` 422."""
    match value:
        case dict():
            _check_ways(len(value), ways_min)
            labelled = list(_from_map(value))
        case list():
            labelled = list(_from_list(value))
        case _:
            raise fail("wrong_type", "A support set is a map of labels to examples, or a list.", "/support")
    return _collected(labelled, ways_min)


def queries_from_json(value: object) -> tuple[SubmittedInput, ...]:
    """Return the queries in order. Raises `ProblemError` 422."""
    if not isinstance(value, list):
        raise fail("wrong_type", "Queries are a list of inputs.", "/queries")
    return _counted([SubmittedInput(item, ("queries", index)) for index, item in enumerate(value)])


def support_from_parts(parts: Sequence[Part], ways_min: int = LIMITS.ways_min) -> SubmittedSupport:
    """Return a support set whose classes are the names of the parts. Raises `ProblemError` 422."""
    labelled, _ = _sorted_parts(parts, support=True, queries=False)
    return _collected(labelled, ways_min)


def queries_from_parts(parts: Sequence[Part]) -> tuple[SubmittedInput, ...]:
    """Return the parts, all of which are named `query`. Raises `ProblemError` 422."""
    _, queries = _sorted_parts(parts, support=False, queries=True)
    return _counted(queries)


def support_and_queries_from_parts(
    parts: Sequence[Part],
) -> tuple[SubmittedSupport, tuple[SubmittedInput, ...]]:
    """Return the parts named `query` apart from those named after a class. Raises `ProblemError` 422."""
    labelled, queries = _sorted_parts(parts, support=True, queries=True)
    return _collected(labelled, LIMITS.ways_min), _counted(queries)


def _sorted_parts(
    parts: Sequence[Part], *, support: bool, queries: bool
) -> tuple[list[_Labelled], list[SubmittedInput]]:
    labelled: list[_Labelled] = []
    found: list[SubmittedInput] = []
    shots: dict[str, int] = {}
    for index, part in enumerate(parts):
        _check_not_option(part, index)
        if part.name == QUERY_PART:
            if not queries:
                raise fail(
                    "reserved_name", "A part named query is a query; this address takes none.", "/queries"
                )
            found.append(SubmittedInput(part, ("queries", len(found))))
            continue
        if not support:
            raise fail("unknown_field", "Every part must be named query here.", pointer((part.name,)))
        label = normal_label(part.name, f"/parts/{index}")
        shot = shots.get(label, 0)
        shots[label] = shot + 1
        labelled.append((label, SubmittedInput(part, ("support", label, shot))))
    return labelled, found


def _check_not_option(part: Part, index: int) -> None:
    """Raise `ProblemError` 422 for text in a part named like an option; a file may be of a class of that name."""
    if part.name not in OPTION_NAMES or part.media_type == "application/json":
        return
    if len(part.data) > _OPTION_BYTES:
        return
    try:
        value = part.data.decode()
    except UnicodeDecodeError:
        return
    if value and not value.strip("\r\n").isprintable():
        return
    detail = (
        f"{part.name} is an option, not a class: put it into the query string, as ?{part.name}=... there."
    )
    raise fail("option_as_part", detail, pointer(("parts", index)))


def _from_map(value: dict[str, object]) -> Iterable[_Labelled]:
    seen: set[str] = set()
    faults: list[Fault] = []
    count = 0
    for position, (key, examples) in enumerate(value.items()):
        where = pointer(("support", key))
        label = normal_label(key, where, f"Label {position} of the support set")
        if label in seen:
            faults.append(
                Fault("duplicate_label", "The label occurs twice after normalisation (NFC).", where)
            )
        elif not isinstance(examples, list):
            faults.append(Fault("wrong_type", "The examples of a class are a list.", where))
        elif not examples:
            faults.append(Fault("empty_class", "The class has no examples.", where, 1))
        else:
            count += len(examples)
            if count > LIMITS.support_examples:
                break
            yield from (
                (label, SubmittedInput(x, ("support", key, index))) for index, x in enumerate(examples)
            )
        seen.add(label)
    if faults:
        raise ProblemError(faults)
    check_examples(count)


def _from_list(value: list[object]) -> Iterable[_Labelled]:
    check_examples(len(value))
    faults: list[Fault] = []
    for index, item in enumerate(value):
        location = ("support", index)
        if not isinstance(item, dict):
            faults.append(
                Fault("wrong_type", 'An example is {"input": x, "label": text}.', pointer(location))
            )
            continue
        if "target" in item:
            faults.append(Fault("wrong_task_kind", _HAS_TARGET, pointer((*location, "target"))))
            continue
        faults += field_faults(item, ("input", "label"), location)
        label = label_from_json(item.get("label", "-"))
        if label is None:
            faults.append(Fault("wrong_type", WRONG_LABEL, pointer((*location, "label"))))
        elif not faults:
            yield (
                normal_label(label, pointer((*location, "label"))),
                SubmittedInput(item["input"], (*location, "input")),
            )
    if faults:
        raise ProblemError(faults)


def field_faults(item: dict[str, object], fields: Sequence[str], location: Location) -> list[Fault]:
    """Return a fault for each field that the item lacks, and for each that it has beyond `fields`."""
    missing = [
        Fault("missing", "The field is required.", pointer((*location, name)))
        for name in fields
        if name not in item
    ]
    unknown = [
        Fault("unknown_field", "There is no such field.", pointer((*location, name)))
        for name in item
        if name not in fields
    ]
    return missing + unknown


def _collected(labelled: Sequence[_Labelled], ways_min: int) -> SubmittedSupport:
    if not labelled:
        raise fail("empty_support", "The support set is empty.", "/support", 1)
    check_examples(len(labelled))
    classes: dict[str, int] = {}
    labels = tuple(classes.setdefault(label, len(classes)) for label, _ in labelled)
    _check_ways(len(classes), ways_min)
    return SubmittedSupport(tuple(submitted for _, submitted in labelled), tuple(classes), labels)


def _counted(queries: Sequence[SubmittedInput]) -> tuple[SubmittedInput, ...]:
    if not queries:
        raise fail("no_queries", "There are no queries.", "/queries", 1)
    if len(queries) > LIMITS.queries:
        raise fail(
            "too_many_queries", f"There are more than {LIMITS.queries} queries.", "/queries", LIMITS.queries
        )
    return tuple(queries)


def check_size(shots: Sequence[int], where: str | None) -> None:
    """Raise `ProblemError` 422 if a whole support set has too few or too many classes or examples."""
    _check_ways(len(shots), LIMITS.ways_min, where)
    check_examples(sum(shots))


def _check_ways(ways: int, least: int, where: str | None = "/support") -> None:
    if ways == 0:
        raise fail("empty_support", "The support set is empty.", where, 1)
    if ways < least:
        detail = f"A classification task needs at least {least} classes; this support set has {ways}."
        raise fail("too_few_classes", detail, where, least)
    if ways > LIMITS.ways_max:
        raise fail(
            "too_many_classes", f"There are more than {LIMITS.ways_max} classes.", where, LIMITS.ways_max
        )


def check_examples(count: int, where: str | None = "/support", *, least: int = 0) -> None:
    """Raise `ProblemError` 422 if there are fewer than `least` examples, or too many."""
    limit = LIMITS.support_examples
    if count < least:
        raise fail("empty_support", "The support set is empty.", where, least)
    if count > limit:
        raise fail("too_many_examples", f"There are more than {limit} examples.", where, limit)


def normal_label(text: str, where: str, what: str = "The label") -> str:
    """Return a label in NFC. Raises `ProblemError` 422 for empty, long and unprintable ones."""
    label = labels.normal(text)
    if (fault := labels.fault(label, what)) is not None:
        raise fail("invalid_label", fault.detail, where, fault.limit)
    return label


def label_from_json(value: object) -> str | None:
    """Return a label of a JSON document as text; a whole number is its decimal text. None for other values."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > WHOLE_MAX:
        return None
    # An array of numbers is read as floats.
    return str(int(value)) if float(value).is_integer() else None
