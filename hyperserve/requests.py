"""Requests as data: what is sent, and whether it may be sent again. Nothing here does I/O on a network."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import quote

from hyperserve import inputs
from hyperserve.uploads import Upload

PAGE = 200
"""Items that a list asks for at a time."""


class Named(Protocol):
    """An answer of the server that has an id."""

    id: str


@dataclass(frozen=True)
class Request:
    """One request, the same at every attempt.

    repeatable: whether it may be sent again when its connection broke and the server may have carried it out.
    """

    method: str
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)
    body: bytes | Upload | None = None
    """Bytes are JSON."""
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = True

    @classmethod
    def creation(
        cls,
        path: str,
        body: bytes | Upload,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Request:
        """A POST that makes something. Its key lets the server know a second attempt, so it is repeatable."""
        key = {"Idempotency-Key": uuid.uuid4().hex}
        return cls("POST", path, params or {}, body, {**(headers or {}), **key})

    @property
    def asked(self) -> dict[str, str | int | float]:
        """The query parameters that were given, as the server spells them."""
        return {
            name: str(value).lower() if isinstance(value, bool) else value
            for name, value in given(self.params).items()
        }

    @property
    def all_headers(self) -> dict[str, str]:
        """With those that describe the body."""
        if isinstance(self.body, Upload):
            size = {"Content-Type": self.body.media_type, "Content-Length": str(self.body.size)}
            return {**self.headers, **size}
        if self.body is not None:
            return {**self.headers, "Content-Type": "application/json"}
        return dict(self.headers)


def path(*segments: str) -> str:
    """Below /v1. Raises ValueError when a segment, such as an id, is empty."""
    if not all(segments):
        raise ValueError(f"/v1/{'/'.join(segments)}: an id or a name is missing")
    return "/v1/" + "/".join(quote(segment, safe="") for segment in segments)


def identity(thing: Named | str) -> str:
    """An id, or the id of an answer that has one."""
    return thing if isinstance(thing, str) else thing.id


def encode(fields: Mapping[str, Any]) -> bytes:
    """A JSON body."""
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def given(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is None, which is left to the server."""
    return {name: value for name, value in fields.items() if value is not None}


def support_body(support: inputs.Support, **fields: Any) -> bytes:
    """A body that carries a support set. Raises TypeError or ValueError naming the class and the example."""
    return encode({**given(fields), "support": inputs.support(support)})


def query_body(
    queries: Iterable[inputs.Input], targets: Iterable[inputs.Target] | None = None, **fields: Any
) -> bytes:
    """A body that carries queries, and targets of a regression task beside them.

    Raises TypeError or ValueError naming the query.
    """
    return encode({"queries": inputs.queries(queries), **_targets(targets), **given(fields)})


def once_body(
    support: inputs.Support,
    queries: Iterable[inputs.Input],
    targets: Iterable[inputs.Target] | None = None,
    **fields: Any,
) -> bytes:
    """A body that carries both."""
    sent = {"support": inputs.support(support), "queries": inputs.queries(queries)}
    return encode({**given(fields), **sent, **_targets(targets)})


def answer_body(right: str | inputs.Target) -> bytes:
    """A body that says what an input is: a label, or a target. Raises TypeError or ValueError."""
    return encode(inputs.answer(right))


def _targets(targets: Iterable[inputs.Target] | None) -> dict[str, Any]:
    if targets is None:
        return {}
    return {"targets": [inputs.target(target, f"target {number}") for number, target in enumerate(targets)]}


def span(given: tuple[int, int] | int | None) -> dict[str, int] | None:
    """A range of ways or shots as the wire has it; a single number is a range of one."""
    if given is None:
        return None
    low, high = (given, given) if isinstance(given, int) else given
    return {"min": low, "max": high}
