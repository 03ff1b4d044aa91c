"""A document that cannot be read is a 400 that names the place and the limit."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.app.problems import error, post, problem

pytestmark = pytest.mark.usefixtures("nothing_stored")


def test_empty_body(client: httpx.Client) -> None:
    error(post(client, b""), 400, "empty_body", "")
    error(client.post("/v1/tasks"), 400, "empty_body", "")
    error(post(client, b"  \n "), 400, "empty_body", "")


@pytest.mark.parametrize(
    "text", ["{", "[1, 2", '{"a" 1}', '{"a": 1,}', "{'a': 1}", '"\\x"', "01", "nul", "{} {}"]
)
def test_broken_json(client: httpx.Client, text: str) -> None:
    assert problem(post(client, text), 400, "invalid_json")["errors"][0]["detail"].startswith("Expected")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_not_a_json_number(client: httpx.Client, number: str) -> None:
    error(post(client, f'{{"learner": {number}}}'), 400, "not_json_number", "/learner")
    text = f'{{"support": {{"a": [[1, {number}]], "b": [[1, 2]]}}}}'
    error(post(client, text), 400, "not_json_number", "/support/a/0/1")


@pytest.mark.parametrize("number", ["1e999", "-1e999", "1" + "0" * 10_000 + ".5"])
def test_number_beyond_float(client: httpx.Client, number: str) -> None:
    text = f'{{"support": {{"a": [[1, {number}]], "b": [[1, 2]]}}}}'
    error(post(client, text), 400, "number_out_of_range", "/support/a/0/1")
    error(post(client, f'{{"coverage": {number}}}'), 400, "number_out_of_range", "/coverage")


@pytest.mark.parametrize("digits", [19, 23, 10_000, 1_000_000])
def test_huge_integer(client: httpx.Client, digits: int) -> None:
    error(post(client, f'{{"samples": {"9" * digits}}}'), 400, "number_out_of_range", "/samples", 18)


def test_duplicate_keys(client: httpx.Client) -> None:
    error(post(client, '{"learner": "glyphs", "learner": "vectors"}'), 400, "duplicate_key", "/learner")
    text = '{"support": {"a": [[1]], "b": [[2]], "a": [[3]]}}'
    error(post(client, text), 400, "duplicate_key", "/support/a")


def test_lone_surrogates(client: httpx.Client) -> None:
    error(post(client, r'{"name": "\ud800"}'), 400, "lone_surrogate", "/name")
    error(post(client, r'{"support": {"\udfff": [[1]]}}'), 400, "lone_surrogate", "/support")


@pytest.mark.parametrize("character", [r"\u0000", r"\u0007", r"\u001b", r"\u007f", r"\u0085"])
def test_control_characters(client: httpx.Client, character: str) -> None:
    error(post(client, f'{{"name": "a{character}b"}}'), 400, "control_character", "/name")
    error(post(client, f'{{"support": {{"a{character}": [[1]]}}}}'), 400, "control_character", "/support")


def test_raw_control_characters(client: httpx.Client) -> None:
    error(post(client, b'{"name": "a\0b"}'), 400, "control_character", "/name")
    error(post(client, b'{"name": "a\nb"}'), 400, "control_character", "/name")


def test_nested_too_deep(client: httpx.Client) -> None:
    response = post(client, '{"support": ' + "[" * 100_000)
    assert problem(response, 400, "too_deep")["errors"][0]["limit"] == 32


def test_more_values_than_any_request(client: httpx.Client) -> None:
    response = post(client, "[" + "[]," * 1_000_000 + "1]")
    assert problem(response, 400, "too_many_values")["errors"][0]["limit"] == 250_000


def test_not_utf_8(client: httpx.Client) -> None:
    error(post(client, b'{"name": "\xff"}'), 400, "invalid_utf8", "")
    error(post(client, b'{"name": "\xed\xa0\x80"}'), 400, "invalid_utf8", "")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_mark(client: httpx.Client, encoding: str) -> None:
    error(post(client, '{"name": "a"}'.encode(encoding)), 400, "byte_order_mark", "")


def test_json_dumps_of_python(client: httpx.Client) -> None:
    """A careless client sends what `json.dumps` writes for NaN."""
    text = json.dumps({"support": {"a": [[float("nan")]], "b": [[1.0]]}})
    error(post(client, text), 400, "not_json_number", "/support/a/0/0")
