"""The rows of an archive, decoded strictly: nothing is restored that this code would not have written."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, NoReturn

from pydantic import Field, StringConstraints, TypeAdapter, ValidationError
from sqlalchemy import JSON, BigInteger, Boolean, Column, DateTime, Float, Integer, LargeBinary, String, Table
from sqlalchemy.types import TypeDecorator

from app.core.errors import AppError
from app.db.base import DIGEST, ID, LABEL, SLUG, TENANT

_Count = Annotated[int, Field(ge=0)]
_Size = Annotated[int, Field(ge=1, le=1 << 31)]
_Name = Annotated[str, StringConstraints(min_length=1, max_length=LABEL.length)]
_Number = Annotated[float, Field(allow_inf_nan=False)]
_JSON: dict[tuple[str, str], TypeAdapter[Any]] = {
    ("stream_tasks", "labels"): TypeAdapter(list[_Name]),
    ("versions", "classes"): TypeAdapter(list[_Name]),
    ("versions", "shots"): TypeAdapter(Annotated[list[_Size], Field(min_length=1)]),
    ("versions", "shape"): TypeAdapter(Annotated[list[_Size], Field(min_length=1, max_length=4)]),
    ("examples", "target"): TypeAdapter(Annotated[list[_Number], Field(min_length=1)]),
    ("predictions", "target"): TypeAdapter(list[_Number]),
    ("predictions", "feedback_target"): TypeAdapter(list[_Number]),
    ("datasets", "shape"): TypeAdapter(list[_Size]),
    ("datasets", "classes"): TypeAdapter(dict[_Name, _Count]),
}
"""Values of columns that hold JSON; others hold an object."""
_OBJECT = TypeAdapter(dict[str, Any])
_INPUTS = ("image", "text", "vector")
_WORDS: dict[tuple[str, str], tuple[str, ...]] = {
    ("stream_tasks", "state"): ("registering", "ready", "forgotten"),
    ("examples", "kind"): _INPUTS,
    ("predictions", "kind"): _INPUTS,
    ("datasets", "kind"): ("image", "vector"),
    ("datasets", "format"): ("zip", "npz", "csv"),
    ("learners", "status"): ("training", "ready", "failed"),
    ("jobs", "state"): ("queued", "running", "succeeded", "failed", "cancelled", "dead"),
}
_SIGNED = {("jobs", "priority")}
_LENGTHS = {
    ID.length: re.compile(r"[a-z]+_[0-9a-z]{1,35}"),
    TENANT.length: re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*"),
    SLUG.length: re.compile(r"[a-z0-9][a-z0-9_.-]*"),
}
"""Forms of texts by the length of their column: they become parts of paths and addresses."""
_BLOB = re.compile(r"[0-9a-f]{64}")
_DIGEST = re.compile(r"[0-9a-z]{1,64}")
_YEARS = range(1970, 9000)


class RowError(AppError):
    """A row is not one that this code writes; the message names table and column."""


def checked_row(table: Table, line: bytes) -> dict[str, Any]:
    """Return a row in the types of the table's columns. Raises `RowError`."""
    try:
        row = json.loads(line, parse_constant=_refuse_constant, object_pairs_hook=_without_repetitions)
    except (ValueError, RecursionError) as error:
        raise RowError(f"a row of {table.name} is not JSON: {error}") from error
    names = {column.name for column in table.columns}
    if not isinstance(row, dict) or row.keys() != names:
        keys = sorted(names ^ set(row))[:5] if isinstance(row, dict) else []
        raise RowError(f"a row of {table.name} has other columns than its table: {', '.join(keys)}")
    return {column.name: _checked(table.name, column, row[column.name]) for column in table.columns}


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


def _without_repetitions(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is repeated")
    return found


def _checked(table: str, column: Column[Any], value: Any) -> Any:
    if value is None and column.nullable:
        return None
    kind = column.type.impl if isinstance(column.type, TypeDecorator) else column.type
    check = next((check for type, check in _CHECKS.items() if isinstance(kind, type)), None)
    assert check is not None, kind
    try:
        return check(value, (table, column.name), kind)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        reason = "" if isinstance(error, ValidationError) else f": {error}"
        raise RowError(f"a value of {table}.{column.name} cannot be used{reason}") from error


def _text(value: Any, where: tuple[str, str], kind: String) -> str:
    if not isinstance(value, str):
        raise TypeError("it is not a text")
    # Raises for halves of characters.
    value.encode()
    if "\0" in value or (kind.length is not None and len(value) > kind.length):
        raise ValueError("it is too long or has a NUL")
    form = _LENGTHS.get(kind.length)
    if kind.length == DIGEST.length and where[1] != "tenant":
        form = _DIGEST if where[1] == "learner_digest" else _BLOB
    if form is not None and form.fullmatch(value) is None:
        raise ValueError("it has another form")
    if where in _WORDS and value not in _WORDS[where]:
        raise ValueError(f"it is none of {', '.join(_WORDS[where])}")
    return value


def _integer(value: Any, where: tuple[str, str], kind: Integer) -> int:
    if type(value) is not int:
        raise TypeError("it is not a whole number")
    bits = 63 if isinstance(kind, BigInteger) else 31
    if not (-(1 << bits) if where in _SIGNED else 0) <= value < 1 << bits:
        raise ValueError("it is out of range")
    return value


def _float(value: Any, _where: tuple[str, str], _kind: Float[Any]) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise TypeError("it is not a finite number")
    return float(value)


def _boolean(value: Any, _where: tuple[str, str], _kind: Boolean) -> bool:
    if not isinstance(value, bool):
        raise TypeError("it is not true or false")
    return value


def _time(value: Any, _where: tuple[str, str], _kind: DateTime) -> datetime:
    found = datetime.fromisoformat(value)
    if found.tzinfo is None or found.year not in _YEARS:
        raise ValueError("it has no time zone, or is out of range")
    return found


def _bytes(value: Any, _where: tuple[str, str], _kind: LargeBinary) -> bytes:
    return base64.b64decode(value, validate=True)


def _json(value: Any, where: tuple[str, str], _kind: JSON) -> Any:
    _check_texts(value)
    _JSON.get(where, _OBJECT).validate_python(value, strict=True)
    return value


def _check_texts(value: Any) -> None:
    """Raise `ValueError` if a text cannot be stored or sent: PostgreSQL refuses NUL, UTF-8 halves of characters."""
    if isinstance(value, str):
        value.encode()
        if "\0" in value:
            raise ValueError("a text has a NUL")
    elif isinstance(value, dict):
        for pair in value.items():
            _check_texts(pair)
    elif isinstance(value, list | tuple):
        for item in value:
            _check_texts(item)


_CHECKS: dict[type[Any], Callable[[Any, tuple[str, str], Any], Any]] = {
    String: _text,
    Boolean: _boolean,
    Integer: _integer,
    Float: _float,
    DateTime: _time,
    LargeBinary: _bytes,
    JSON: _json,
}
