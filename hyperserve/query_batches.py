"""The queries of one call, sent in one request or, if they exceed the limits of one, in several."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, cast

from hyperserve import inputs
from hyperserve.errors import InvalidArgumentError, StatusError, status_error
from hyperserve.requests import Request, encode, targets_in_json, without_none
from hyperserve.stream_types import StreamPredictions
from hyperserve.types import Limits, Notice, Predictions, ProblemItem

Answer = TypeVar("Answer", bound=Predictions | StreamPredictions)
OnProgress = Callable[[int, int], object]
"""Called with the number of answered queries and the number of all."""

BATCHES_AT_ONCE = 4
MOST_QUERIES = 1_024
MOST_BYTES = 32 << 20
"""What one request is taken to hold until a server says otherwise at `/v1/limits`."""
_TOO_MUCH = ("too_many_queries", "body_too_large")
_ENVELOPE = 64
"""Bytes of a body around its members."""


@dataclass(frozen=True)
class QueryBatches:
    """Queries in JSON form, and what every request about some of them has besides.

    queries, targets, members: JSON texts; members: the other fields of the body, by name.
    """

    path: str
    queries: Sequence[bytes]
    targets: Sequence[bytes] | None = None
    members: Mapping[str, bytes] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        path: str,
        queries: Iterable[inputs.Input],
        fields: Mapping[str, Any] | None = None,
        *,
        targets: Iterable[inputs.Target] | None = None,
        support: inputs.Support | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> QueryBatches:
        """Encode the arguments of a call; fields: the options in the body, of which None is left out.

        Raises InvalidArgumentError naming the query, the target or the example.
        """
        examples = None if support is None else inputs.support(support, (fields or {}).get("kind"))
        body = without_none({**(fields or {}), "support": examples})
        members = {name: encode(value) for name, value in body.items()}
        wires = [encode(wire) for wire in inputs.queries(queries)]
        answers = None if targets is None else [encode(target) for target in targets_in_json(targets)]
        return cls(path, wires, answers, members, params or {})

    @property
    def whole(self) -> range:
        """Return the positions of all queries."""
        return range(len(self.queries))

    @property
    def fits_one_request(self) -> bool:
        """Return True if a server with the usual limits takes all queries in one request."""
        size = self._overhead + sum(map(self._size, self.whole))
        return len(self.queries) <= MOST_QUERIES and size <= MOST_BYTES

    def with_param(self, name: str, value: object) -> QueryBatches:
        """Return the same queries with a parameter of the query string, unless the call gave it already."""
        return (
            self if self.params.get(name) is not None else replace(self, params={**self.params, name: value})
        )

    def with_member(self, name: str, value: object) -> QueryBatches:
        """Return the same queries with a field of the body, unless the call gave it already."""
        return self if name in self.members else replace(self, members={**self.members, name: encode(value)})

    def request(self, batch: range) -> Request:
        """Return the request for the queries at some positions."""
        members = {"queries": _array(self.queries, batch)}
        if self.targets is not None:
            members["targets"] = _array(self.targets, batch)
        body = b",".join(
            b'"%s":%s' % (name.encode(), text) for name, text in {**self.members, **members}.items()
        )
        return Request("POST", self.path, self.params, b"{%s}" % body)

    def split(self, limits: Limits) -> list[range]:
        """Return the positions of the queries of each request that a server takes.

        Raises InvalidArgumentError for a single query that is too large, and unless each query has its target.
        """
        if self.targets is not None and len(self.targets) != len(self.queries):
            raise InvalidArgumentError(f"{len(self.targets)} targets for {len(self.queries)} queries")
        return list(self._batches(limits.queries, limits.json_bytes - self._overhead))

    def _batches(self, most: int, room: int) -> Iterator[range]:
        start, size = 0, 0
        for position in self.whole:
            more = self._size(position)
            if more > room:
                raise InvalidArgumentError(
                    f"query {position} takes {more} bytes in JSON; a request has room for {max(0, room)}"
                )
            if position - start == most or size + more > room:
                yield range(start, position)
                start, size = position, 0
            size += more
        yield range(start, len(self.queries))

    @property
    def _overhead(self) -> int:
        return _ENVELOPE + sum(len(name) + len(text) + 4 for name, text in self.members.items())

    def _size(self, position: int) -> int:
        target = 0
        if self.targets is not None and position < len(self.targets):
            target = len(self.targets[position]) + 1
        return len(self.queries[position]) + 1 + target


def is_too_much(error: StatusError) -> bool:
    """Return True if a server refused a request because it has too many queries or bytes."""
    return error.code in _TOO_MUCH


def joined(answers: Mapping[int, Answer]) -> Answer:
    """Return one answer from those to batches, by the position of their first query; times are added up."""
    first = answers[0]
    parts = [answers[start] for start in sorted(answers)]
    timing: dict[str, float] = {}
    for part in parts:
        for phase, milliseconds in part.timing.items():
            timing[phase] = timing.get(phase, 0.0) + milliseconds
    update: dict[str, Any] = {
        "predictions": [prediction for part in parts for prediction in part.predictions],
        "timing": timing,
    }
    if "warnings" in type(first).model_fields:
        found = [_shifted(notice, start) for start in sorted(answers) for notice in _warnings(answers[start])]
        # What concerns the task and no query of its own is in every part.
        update["warnings"] = list({(one.code, one.pointer, one.detail): one for one in found}.values())
    return cast(Answer, first.model_copy(update=update))


def shifted_error(error: StatusError, start: int) -> StatusError:
    """Return the error of a batch with the positions that its queries have among all."""
    if error.problem is None or start == 0:
        return error
    faults = [_shifted(fault, start) for fault in error.problem.errors]
    problem = error.problem.model_copy(update={"errors": faults})
    return status_error(error.status, problem, error.retry_after)


Located = TypeVar("Located", Notice, ProblemItem)


def _shifted(item: Located, start: int) -> Located:
    """Return an item whose pointer, such as /queries/3/image, counts from the first query of the call."""
    parts = (item.pointer or "").split("/")
    if len(parts) < 3 or parts[1] not in ("queries", "targets") or not parts[2].isdigit():
        return item
    parts[2] = str(int(parts[2]) + start)
    return item.model_copy(update={"pointer": "/".join(parts)})


def _warnings(answer: Predictions | StreamPredictions) -> list[Notice]:
    found: list[Notice] = getattr(answer, "warnings", [])
    return found


def _array(texts: Sequence[bytes], batch: range) -> bytes:
    return b"[%s]" % b",".join(texts[batch.start : batch.stop])
