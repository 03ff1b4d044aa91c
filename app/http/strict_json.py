"""A strict JSON reader: it refuses, at a pointer, what other readers let pass.

It refuses duplicate keys, NaN and Infinity, numbers that no 64-bit float or integer holds, lone surrogates, NUL and
control characters, byte order marks, deep nesting, and more values than any valid request has. Strings and arrays
of numbers, nearly all of a request, are read by the C functions of the standard library.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from json.decoder import scanstring  # type: ignore[attr-defined]  # documented nowhere, stable since 3.1
from math import isfinite
from typing import NoReturn

from app.http.problems import fail, pointer

MAX_DEPTH = 32
MAX_VALUES = 250_000
"""Not counting numbers in arrays of numbers: 20,000 examples in the longest form are 80,000 values."""
MAX_NUMBERS = 20_000
"""Numbers of one array: it is read in one piece, during which nothing else runs in the process."""
MAX_DIGITS = 18
"""Digits of an integer that fits into 64 bits."""

JsonValue = None | bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"]

_SPACE = re.compile(r"[ \t\n\r]*")
_NUMBERS = re.compile(r"\[[-+0-9.eE, \t\n\r]++\]")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_LITERAL = re.compile(r"true|false|null|NaN|-?Infinity")
_LITERALS: dict[str, JsonValue] = {"true": True, "false": False, "null": None}
_SURROGATE = re.compile("[\ud800-\udfff]")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def parse(data: bytes, location: Sequence[str | int] = ()) -> JsonValue:
    """Return the value of a JSON document in UTF-8, which is at `location`. Raises `ProblemError` 400."""
    root = pointer(location)
    if data.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise fail("byte_order_mark", "The document starts with a byte order mark.", root)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise fail("invalid_utf8", f"The document is not UTF-8 at byte {error.start}.", root) from None
    reader = _JsonReader(text, location)
    position = reader.space(0)
    if position == len(text):
        raise fail("empty_body", "The document is empty.", root)
    value, position = reader.value(position, 0)
    if reader.space(position) != len(text):
        reader.broken(position, "nothing more")
    return value


class _JsonReader:
    """Recursive descent over one text; `path` is the current location."""

    def __init__(self, text: str, location: Sequence[str | int]) -> None:
        self.text = text
        self.path = list(location)
        self.values = 0

    def refuse(self, code: str, detail: str, limit: float | None = None) -> NoReturn:
        raise fail(code, detail, pointer(self.path), limit)

    def broken(self, position: int, expected: str) -> NoReturn:
        line = self.text.count("\n", 0, position) + 1
        column = position - self.text.rfind("\n", 0, position)
        self.refuse("invalid_json", f"Expected {expected} at line {line}, column {column}.")

    def space(self, position: int) -> int:
        match = _SPACE.match(self.text, position)
        assert match is not None
        return match.end()

    def value(self, position: int, depth: int) -> tuple[JsonValue, int]:
        self.values += 1
        if self.values > MAX_VALUES:
            self.refuse("too_many_values", f"The document holds more than {MAX_VALUES} values.", MAX_VALUES)
        first = self.text[position : position + 1]
        if first == '"':
            return self.string(position)
        if first in ("[", "{"):
            if depth == MAX_DEPTH:
                self.refuse("too_deep", f"The document is nested deeper than {MAX_DEPTH} levels.", MAX_DEPTH)
            return self.array(position, depth + 1) if first == "[" else self.object(position, depth + 1)
        if match := _LITERAL.match(self.text, position):
            if match[0] not in _LITERALS:
                self.refuse("not_json_number", "NaN and Infinity are not JSON.")
            return _LITERALS[match[0]], match.end()
        return self.number(position)

    def string(self, position: int) -> tuple[str, int]:
        try:
            text, end = scanstring(self.text, position + 1, True)
        except json.JSONDecodeError as error:
            if error.msg.startswith("Invalid control character"):
                self.refuse("control_character", "A string holds a control character.")
            self.broken(error.pos, "a string with valid escapes and a closing quote")
        if _CONTROL.search(text):
            self.refuse("control_character", "A string holds a control character.")
        if not text.isascii() and _SURROGATE.search(text):
            self.refuse("lone_surrogate", "A string holds half of a surrogate pair.")
        return text, end

    def number(self, position: int) -> tuple[int | float, int]:
        match = _NUMBER.match(self.text, position)
        if match is None:
            self.broken(position, "a value")
        if match[1] is None and match[2] is None:
            if len(match[0].lstrip("-")) > MAX_DIGITS:
                self.refuse(
                    "number_out_of_range", f"An integer has more than {MAX_DIGITS} digits.", MAX_DIGITS
                )
            return int(match[0]), match.end()
        value = float(match[0])
        if not isfinite(value):
            self.refuse("number_out_of_range", "A number is too large for a 64-bit float.")
        return value, match.end()

    def array(self, position: int, depth: int) -> tuple[list[JsonValue], int]:
        match = _NUMBERS.match(self.text, position)
        if match is not None and (numbers := self.numbers(match[0])) is not None:
            return numbers, match.end()
        items: list[JsonValue] = []
        position = self.space(position + 1)
        if self.text.startswith("]", position):
            return items, position + 1
        while True:
            self.path.append(len(items))
            item, position = self.value(position, depth)
            self.path.pop()
            items.append(item)
            position = self.space(position)
            if self.text.startswith("]", position):
                return items, position + 1
            if not self.text.startswith(",", position):
                self.broken(position, "a comma or ]")
            position = self.space(position + 1)

    def numbers(self, text: str) -> list[JsonValue] | None:
        """Return an array of numbers, all as floats; or None if it is broken, so that the slow way says where."""
        if text.count(",") >= MAX_NUMBERS:
            self.refuse("too_many_values", f"An array holds more than {MAX_NUMBERS} numbers.", MAX_NUMBERS)
        try:
            numbers: list[JsonValue] = json.loads(text, parse_int=float)
        except json.JSONDecodeError:
            return None
        if not all(map(isfinite, numbers)):  # type: ignore[arg-type]
            self.path.append(next(i for i, number in enumerate(numbers) if not isfinite(number)))  # type: ignore[arg-type]
            self.refuse("number_out_of_range", "A number is too large for a 64-bit float.")
        return numbers

    def object(self, position: int, depth: int) -> tuple[dict[str, JsonValue], int]:
        members: dict[str, JsonValue] = {}
        position = self.space(position + 1)
        if self.text.startswith("}", position):
            return members, position + 1
        while True:
            if not self.text.startswith('"', position):
                self.broken(position, "a key in quotes")
            key, position = self.string(position)
            self.path.append(key)
            if key in members:
                self.refuse("duplicate_key", "An object has this key twice.")
            position = self.space(position)
            if not self.text.startswith(":", position):
                self.broken(position, "a colon")
            members[key], position = self.value(self.space(position + 1), depth)
            self.path.pop()
            position = self.space(position)
            if self.text.startswith("}", position):
                return members, position + 1
            if not self.text.startswith(",", position):
                self.broken(position, "a comma or }")
            position = self.space(position + 1)
