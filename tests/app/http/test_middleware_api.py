"""Headers of every response."""

from __future__ import annotations

import re

import httpx
import pytest

from tests.app.problems import OK, create


@pytest.mark.parametrize("id", ["abc", "A-1_2.3:4", "x" * 64])
def test_request_id_is_kept_when_sane(client: httpx.Client, id: str) -> None:
    assert client.get("/livez", headers={"X-Request-Id": id}).headers["x-request-id"] == id


@pytest.mark.parametrize("id", ["", "x" * 65, "a b", "a\tb", "<script>", "ä".encode()])
def test_request_id_is_replaced_when_not(client: httpx.Client, id: str | bytes) -> None:
    found = client.get("/livez", headers={"X-Request-Id": id}).headers["x-request-id"]
    assert re.fullmatch("req_[0-9a-z]{26}", found)


def test_request_id_of_a_problem(client: httpx.Client) -> None:
    response = client.get("/nowhere", headers={"X-Request-Id": "mine"})
    assert response.headers["x-request-id"] == response.json()["request_id"] == "mine"


def test_server_timing(client: httpx.Client) -> None:
    response = create(client, support={"a": OK, "b": OK})
    entries = dict(entry.split(";dur=") for entry in response.headers["server-timing"].split(", "))
    assert list(entries) == ["decode", "queue", "embed", "adapt", "total"]
    phases = sum(float(value) for name, value in entries.items() if name != "total")
    assert 0 < phases <= float(entries["total"])
    asked = client.post(f"/v1/tasks/{response.json()['id']}/predict", json={"queries": OK})
    entries = dict(entry.split(";dur=") for entry in asked.headers["server-timing"].split(", "))
    assert list(entries) == ["decode", "queue", "embed", "predict", "total"]
    client.delete(f"/v1/tasks/{response.json()['id']}")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "/v1/tasks", "GET, POST"),
        ("PUT", "/v1/tasks/task_1", "GET, PATCH, DELETE"),
        ("GET", "/v1/predict", "POST"),
        ("DELETE", "/livez", "GET, HEAD"),
        ("TRACE", "/v1/learners/glyphs", "GET, DELETE"),
        ("POST", "/openapi.json", "GET, HEAD"),
    ],
)
def test_method_not_allowed(client: httpx.Client, method: str, path: str, allow: str) -> None:
    response = client.request(method, path)
    assert (response.status_code, response.headers["allow"]) == (405, allow)
    assert response.json()["code"] == "method_not_allowed"


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/tasks/", "/v2/tasks", "/%00", "/v1/tasks/a/b/c", "/" + "a" * 9000]
)
def test_not_found(client: httpx.Client, path: str) -> None:
    response = client.get(path)
    assert (response.status_code, response.json()["code"]) == (404, "not_found")
    assert response.headers["content-type"] == "application/problem+json"
