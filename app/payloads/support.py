"""Support sets and queries as they are sent: a map, a list, or parts; labels in NFC, order kept.

Examples with targets in place of labels are read by `app.payloads.targets`.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from app.http.limits import LIMITS
from app.http.multipart import Part
from app.http.problems import Fault, ProblemError, fail, pointer

QUERY_PART = "query"
_VALUED = 'Targets make a regression task: say "kind": "regression".'
Location = tuple[str | int, ...]
Target = tuple[float, ...]
Aim = tuple[str, Target | None]
"""What an example is to be answered by: its label; or no label, "", and its target."""


@dataclass(frozen=True)
class Sent:
    """One x: a JSON value, or a part of a multipart body, and where it stood."""

    value: object
    location: Location


@dataclass(frozen=True)
class SentSupport:
    """Inputs with labels, not yet looked at. `targets` indexes `classes`; where there are `values`, both are empty."""

    classes: tuple[str, ...]
    targets: tuple[int, ...]
    examples: tuple[Sent, ...]
    values: tuple[Target, ...] = ()

    @property
    def aims(self) -> list[Aim]:
        if self.values:
            return [("", value) for value in self.values]
        return [(self.classes[target], None) for target in self.targets]

    @property
    def shots(self) -> list[int]:
        """Examples of each class; of values their number alone."""
        counts = Counter(self.targets)
        return [counts[index] for index in range(len(self.classes))] or [len(self.values)]


def support_from_json(value: object, ways_min: int = LIMITS.ways_min) -> SentSupport:
    """Of at least so many classes. Raises `ProblemError` 422."""
    match value:
        case dict():
            _check_ways(len(value), ways_min)
            labelled = list(_of_map(value))
        case list():
            labelled = list(_of_list(value))
        case _:
            raise fail("wrong_type", "A support set is a map of labels to examples, or a list.", "/support")
    return _collected(labelled, ways_min)


def queries_from_json(value: object) -> tuple[Sent, ...]:
    """Raises `ProblemError` 422."""
    if not isinstance(value, list):
        raise fail("wrong_type", "Queries are a list of inputs.", "/queries")
    return _counted([Sent(item, ("queries", index)) for index, item in enumerate(value)])


def from_parts(
    parts: Sequence[Part], *, support: bool, queries: bool, ways_min: int = LIMITS.ways_min
) -> tuple[SentSupport | None, tuple[Sent, ...]]:
    """A part's name is its class; parts named `query` are queries. Raises `ProblemError` 422."""
    labelled: list[tuple[str, Sent]] = []
    asked: list[Sent] = []
    shots: dict[str, int] = {}
    for index, part in enumerate(parts):
        if part.name == QUERY_PART:
            if not queries:
                raise fail(
                    "reserved_name", "A part named query is a query; this address takes none.", "/queries"
                )
            asked.append(Sent(part, ("queries", len(asked))))
            continue
        if not support:
            raise fail("unknown_field", "Only parts named query are taken here.", pointer((part.name,)))
        label = normal_label(part.name, f"/parts/{index}")
        shot = shots.get(label, 0)
        shots[label] = shot + 1
        labelled.append((label, Sent(part, ("support", label, shot))))
    return _collected(labelled, ways_min) if support else None, _counted(asked) if queries else ()


def _of_map(value: dict[str, object]) -> Iterable[tuple[str, Sent]]:
    seen: set[str] = set()
    faults: list[Fault] = []
    count = 0
    for position, (key, examples) in enumerate(value.items()):
        where = pointer(("support", key))
        label = normal_label(key, where, f"Label {position} of the support set")
        if label in seen:
            faults.append(
                Fault("duplicate_label", "The label stands twice after normalisation (NFC).", where)
            )
        elif not isinstance(examples, list):
            faults.append(Fault("wrong_type", "The examples of a class are a list.", where))
        elif not examples:
            faults.append(Fault("empty_class", "The class has no examples.", where, 1))
        else:
            count += len(examples)
            if count > LIMITS.support_examples:
                break
            yield from ((label, Sent(x, ("support", key, index))) for index, x in enumerate(examples))
        seen.add(label)
    if faults:
        raise ProblemError(faults)
    check_examples(count)


def _of_list(value: list[object]) -> Iterable[tuple[str, Sent]]:
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
            faults.append(Fault("wrong_task_kind", _VALUED, pointer((*location, "target"))))
            continue
        faults += [
            Fault("missing", "The field is required.", pointer((*location, name)))
            for name in ("input", "label")
            if name not in item
        ]
        faults += [
            Fault("unknown_field", "There is no such field.", pointer((*location, name)))
            for name in item
            if name not in ("input", "label")
        ]
        label = item.get("label", "-")
        if not isinstance(label, str):
            faults.append(Fault("wrong_type", "A label is a text.", pointer((*location, "label"))))
        elif not faults:
            yield (
                normal_label(label, pointer((*location, "label"))),
                Sent(item["input"], (*location, "input")),
            )
    if faults:
        raise ProblemError(faults)


def _collected(labelled: Sequence[tuple[str, Sent]], ways_min: int) -> SentSupport:
    if not labelled:
        raise fail("empty_support", "The support set is empty.", "/support", 1)
    check_examples(len(labelled))
    classes: dict[str, int] = {}
    targets = tuple(classes.setdefault(label, len(classes)) for label, _ in labelled)
    _check_ways(len(classes), ways_min)
    return SentSupport(tuple(classes), targets, tuple(sent for _, sent in labelled))


def _counted(queries: Sequence[Sent]) -> tuple[Sent, ...]:
    if not queries:
        raise fail("no_queries", "There are no queries.", "/queries", 1)
    if len(queries) > LIMITS.queries:
        raise fail(
            "too_many_queries", f"There are more than {LIMITS.queries} queries.", "/queries", LIMITS.queries
        )
    return tuple(queries)


def check_size(shots: Sequence[int], where: str | None) -> None:
    """Of a whole support set. Raises `ProblemError` 422."""
    _check_ways(len(shots), LIMITS.ways_min, where)
    check_examples(sum(shots))


def _check_ways(ways: int, least: int, where: str | None = "/support") -> None:
    if ways == 0:
        raise fail("empty_support", "The support set is empty.", where, 1)
    if ways < least:
        raise fail("too_few_classes", f"{ways} class is too few to tell apart.", where, least)
    if ways > LIMITS.ways_max:
        raise fail(
            "too_many_classes", f"There are more than {LIMITS.ways_max} classes.", where, LIMITS.ways_max
        )


def check_examples(count: int, where: str | None = "/support", *, least: int = 0) -> None:
    """Raises `ProblemError` 422."""
    limit = LIMITS.support_examples
    if count < least:
        raise fail("empty_support", "The support set is empty.", where, least)
    if count > limit:
        raise fail("too_many_examples", f"There are more than {limit} examples.", where, limit)


def normal_label(text: str, where: str, what: str = "The label") -> str:
    """In NFC. Raises `ProblemError` 422 for empty, long and unprintable labels."""
    limit = LIMITS.label_characters
    # Checked before as well: normalising 32 MiB to refuse it would be work for nothing.
    label = text if len(text) > 4 * limit else unicodedata.normalize("NFC", text)
    if not label:
        raise fail("invalid_label", f"{what} is empty.", where, 1)
    if len(label) > limit:
        raise fail("invalid_label", f"{what} has more than {limit} characters.", where, limit)
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in label):
        raise fail("invalid_label", f"{what} holds a control character.", where)
    return label
