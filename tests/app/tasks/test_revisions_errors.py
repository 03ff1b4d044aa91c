"""Changes that have no meaning are refused with a pointer, and change nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from app.core.ids import new_id
from tests.app.problems import OK, create, error, problem
from tests.app.tasks.task_client import CORNERS, TaskClient, new_task


@pytest.fixture(autouse=True)
def _unchanged(pets: TaskClient) -> Iterator[None]:
    before = pets.get(), pets.versions(), pets.etag()
    yield
    assert (pets.get(), pets.versions(), pets.etag()) == before


def test_no_such_task(pets: TaskClient) -> None:
    for id in (new_id("task"), "task_x", "x", "%20", "task_" + "0" * 300):
        path = f"/v1/tasks/{id}"
        for method, suffix, body in (
            ("POST", "/support", {"support": {"a": [CORNERS["a"]]}}),
            ("GET", "/support", None),
            ("PATCH", f"/support/{new_id('ex')}", {"label": "a"}),
            ("DELETE", f"/support/{new_id('ex')}", None),
            ("GET", "/versions", None),
            ("PUT", "/current", {"version": 1}),
            ("PATCH", "", {"name": "x"}),
        ):
            response = pets.client.request(method, path + suffix, json=body)
            problem(response, 404, "task_not_found")


def test_no_such_version(pets: TaskClient) -> None:
    body = {"queries": [CORNERS["a"]]}
    for response in (
        pets.client.get(f"{pets.path}?version=2"),
        pets.client.get(f"{pets.path}/support?version=2"),
        pets.client.post(f"{pets.path}/predict?version=2", json=body),
        pets.client.post(f"{pets.path}/predict", json={**body, "version": 2}),
        pets.client.put(f"{pets.path}/current", json={"version": 2}),
    ):
        error(response, 404, "version_not_found", "/version")


@pytest.mark.parametrize(
    ("number", "code"),
    [
        ("0", "out_of_range"),
        ("-1", "out_of_range"),
        ("2147483648", "out_of_range"),
        ("9" * 23, "out_of_range"),
        ("x", "wrong_type"),
        ("1.5", "wrong_type"),
    ],
)
def test_numbers_that_are_none(pets: TaskClient, number: str, code: str) -> None:
    for path in (pets.path, f"{pets.path}/support"):
        document = problem(pets.client.get(f"{path}?version={number}"), 422, code)
        assert document["errors"][0]["pointer"] == "/version"


@pytest.mark.parametrize("version", [0, 2**31, 1.5, "1", True, None])
def test_no_number_to_promote(pets: TaskClient, version: object) -> None:
    response = pets.client.put(f"{pets.path}/current", json={"version": version})
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] == "/version"


def test_no_such_example(pets: TaskClient) -> None:
    other = new_task(pets.client)
    foreign = other.examples()[0]["id"]
    for example in (new_id("ex"), "x", foreign):
        path = f"{pets.path}/support/{example}"
        problem(pets.client.patch(path, json={"label": "a"}), 404, "example_not_found")
        problem(pets.client.delete(path), 404, "example_not_found")
    pets.client.delete(other.path)


def test_the_last_two_classes_stay(pets: TaskClient) -> None:
    first, second = pets.examples()
    problem(pets.client.delete(f"{pets.path}/support/{first['id']}"), 422, "too_few_classes")
    response = pets.client.patch(f"{pets.path}/support/{second['id']}", json={"label": "a"})
    error(response, 422, "too_few_classes", "/label", 2)


@pytest.mark.parametrize("label", ["", "l" * 201, 1.5, True, None])
def test_labels(pets: TaskClient, label: object) -> None:
    response = pets.client.patch(f"{pets.path}/support/{pets.examples()[0]['id']}", json={"label": label})
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] == "/label"


@pytest.mark.parametrize(
    ("support", "code", "pointer"),
    [
        ({}, "empty_support", "/support"),
        ([], "empty_support", "/support"),
        ({"a": []}, "empty_class", "/support/a"),
        ({"": [[1.0, 2.0]]}, "invalid_label", "/support"),
        ({"a": [[1.0, 2.0, 3.0]]}, "vector_length", "/support/a/0"),
        ({"a": [{"text": "x"}]}, "wrong_kind", "/support/a/0"),
        (7, "wrong_type", "/support"),
        ({str(way): [[1.0, 2.0]] for way in range(999)}, "too_many_classes", "/support"),
    ],
)
def test_support(pets: TaskClient, support: object, code: str, pointer: str) -> None:
    response = pets.client.post(f"{pets.path}/support", json={"support": support})
    assert problem(response, 422, code)["errors"][0]["pointer"].startswith(pointer)


def test_too_many_examples_together(pets: TaskClient) -> None:
    response = pets.client.post(f"{pets.path}/support", json={"support": {"a": [[1.0, 2.0]] * 19_999}})
    error(response, 422, "too_many_examples", "/support", 20_000)


def test_unknown_fields_and_options(pets: TaskClient) -> None:
    example = f"{pets.path}/support/{pets.examples()[0]['id']}"
    more = {"support": {"a": [CORNERS["a"]]}}
    calls: list[tuple[str, str, Any]] = [
        ("GET", pets.path, None),
        ("DELETE", pets.path, None),
        ("PATCH", pets.path, {"name": "x"}),
        ("POST", f"{pets.path}/support", more),
        ("GET", f"{pets.path}/support", None),
        ("PATCH", example, {"label": "a"}),
        ("DELETE", example, None),
        ("GET", f"{pets.path}/versions", None),
        ("PUT", f"{pets.path}/current", {"version": 1}),
    ]
    for method, path, body in calls:
        error(pets.client.request(method, f"{path}?x=1", json=body), 422, "unknown_field", "/x")
        if body is not None:
            response = pets.client.request(method, path, json={**body, "x": 1})
            error(response, 422, "unknown_field", "/x")


@pytest.mark.parametrize("flag", ["1", "yes", "", "True", "null"])
def test_flags_are_true_or_false(pets: TaskClient, flag: str) -> None:
    example = f"{pets.path}/support/{pets.examples()[0]['id']}"
    error(pets.client.delete(f"{example}?promote={flag}"), 422, "wrong_type", "/promote")
    body = {"queries": [CORNERS["a"]]}
    error(pets.client.post(f"{pets.path}/predict?store={flag}", json=body), 422, "wrong_type", "/store")


@pytest.mark.parametrize("flag", ["true", 1, None])
def test_flags_of_a_body(pets: TaskClient, flag: object) -> None:
    body = {"queries": [CORNERS["a"]], "store": flag}
    error(pets.client.post(f"{pets.path}/predict", json=body), 422, "wrong_type", "/store")
    body = {"support": {"a": [CORNERS["a"]]}, "promote": flag}
    error(pets.client.post(f"{pets.path}/support", json=body), 422, "wrong_type", "/promote")


def test_cursors_of_other_lists(client: httpx.Client, pets: TaskClient) -> None:
    other = new_task(client, {label: [CORNERS[label]] * 2 for label in ("a", "b")})
    other.add({"a": [CORNERS["a"]]})
    for suffix in ("support", "versions"):
        cursor = client.get(f"{other.path}/{suffix}?limit=1").json()["next_cursor"]
        for foreign in (cursor, "x", "dGFzaw", ""):
            response = client.get(f"{pets.path}/{suffix}", params={"cursor": foreign})
            error(response, 422, "bad_cursor", "/cursor")
    client.delete(other.path)


def test_pages_end_at_many_labels(client: httpx.Client) -> None:
    """Tasks of a thousand classes: a page is a few of them, and the cursor goes on."""
    support = {f"class {way:>4}": [[float(way), 0.0]] for way in range(1_000)}
    ids = [create(client, support=support).json()["id"] for _ in range(6)]
    page = client.get("/v1/tasks?limit=200").json()
    assert [one["id"] for one in page["items"]] == ids[:0:-1]
    following = client.get("/v1/tasks", params={"cursor": page["next_cursor"], "limit": 2}).json()
    assert [one["id"] for one in following["items"]][:1] == ids[:1]
    for id in ids:
        client.delete(f"/v1/tasks/{id}")


def test_too_many_options_once(pets: TaskClient) -> None:
    body = {"support": {"a": OK}, "promote": True}
    error(pets.client.post(f"{pets.path}/support?promote=true", json=body), 422, "given_twice", "/promote")
