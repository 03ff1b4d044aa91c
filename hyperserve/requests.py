"""Requests as data: method, path, body and retry safety; nothing here touches the network."""

from __future__ import annotations

import gzip
import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import quote

from hyperserve import inputs
from hyperserve.errors import ArgumentTypeError, InvalidArgumentError
from hyperserve.types import TaskKind
from hyperserve.uploads import Upload

PAGE_SIZE = 200
"""Items that a list fetches per request."""


COMPRESSED_FROM = 16_384
"""Bytes of JSON from which compressing is worth its time."""


class HasId(Protocol):
    """Anything with an id, such as a `Job` or a `Dataset`."""

    id: str


@dataclass(frozen=True)
class Request:
    """One request, identical at every attempt.

    repeatable: safe to send again after the connection broke, when the server may have carried it out.
    """

    method: str
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)
    body: bytes | Upload | None = None
    """JSON if bytes."""
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
        """Return a POST that creates a resource, repeatable because its key identifies a second attempt."""
        key = {"Idempotency-Key": uuid.uuid4().hex}
        return cls("POST", path, params or {}, body, {**(headers or {}), **key})

    @property
    def query_params(self) -> dict[str, str | int | float]:
        """Return the query parameters that are not None, booleans in lower case."""
        return {
            name: str(value).lower() if isinstance(value, bool) else value
            for name, value in without_none(self.params).items()
        }

    @property
    def all_headers(self) -> dict[str, str]:
        """Return the headers of the request, those that describe its body included."""
        if isinstance(self.body, Upload):
            of_body = {"Content-Type": self.body.media_type, "Content-Length": str(self.body.size)}
            return {**self.headers, **of_body}
        if self.body is not None:
            return {**self.headers, "Content-Type": "application/json"}
        return dict(self.headers)


def path(*segments: str) -> str:
    """Return the path of a resource below /v1. Raises InvalidArgumentError if a segment, such as an id, is empty."""
    if not all(segments):
        raise InvalidArgumentError(f"/v1/{'/'.join(segments)}: an id or a name is empty")
    return "/v1/" + "/".join(quote(segment, safe="") for segment in segments)


def id_of(resource: HasId | str) -> str:
    """Return the id of a resource; an id is returned as it is."""
    return resource if isinstance(resource, str) else resource.id


def encode(value: Any) -> bytes:
    """Return a value as JSON. Raises InvalidArgumentError for values that JSON cannot hold."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except TypeError as error:
        raise ArgumentTypeError(f"cannot encode the request as JSON: {error}") from error
    except ValueError as error:
        raise InvalidArgumentError(f"cannot encode the request as JSON: {error}") from error


def compressed(body: bytes) -> bytes:
    """Return a body as gzip, at the level that is fastest."""
    return gzip.compress(body, 1)


def without_none(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that are not None; the server applies its defaults to the rest."""
    return {name: value for name, value in fields.items() if value is not None}


def support_body(support: inputs.Support, task_kind: TaskKind | None = None, **fields: Any) -> bytes:
    """Return a body with a support set, for a task of `task_kind` or of the field `kind`.

    Raises InvalidArgumentError naming the class and the example.
    """
    kind = task_kind or fields.get("kind")
    return encode({**without_none(fields), "support": inputs.support(support, kind)})


def label_or_target_body(value: inputs.Label | inputs.Target, kind: TaskKind | None = None) -> bytes:
    """Return a body with a label or a target, for a task of `kind` if it is known. Raises InvalidArgumentError."""
    return encode(inputs.label_or_target(value, kind=kind))


def targets_in_json(targets: Iterable[inputs.Target]) -> list[list[float]]:
    """Return the targets of queries in JSON form. Raises InvalidArgumentError naming the target."""
    return inputs.targets(targets)


def span(limits: tuple[int, int] | int | None) -> dict[str, int] | None:
    """Return a range of ways or shots in JSON form; a single number is a range of one."""
    if limits is None:
        return None
    low, high = (limits, limits) if isinstance(limits, int) else limits
    return {"min": low, "max": high}
