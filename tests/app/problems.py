"""What every problem document must be, whatever it says."""

from __future__ import annotations

from typing import Any

import httpx

JSON = {"Content-Type": "application/json"}
OK = [[0.0, 1.0], [1.0, 0.0]]
"""Two examples that the vector learner takes."""


def problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Checks all that is common to problems."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert document["status"] == status
    assert document["code"] == code, document
    assert document["type"] == f"/problems/{code}"
    assert document["request_id"] == response.headers["x-request-id"]
    assert len(document["errors"]) <= 20
    assert len(response.content) < 8_000
    return document


def error(response: httpx.Response, status: int, code: str, pointer: str, limit: float | None = None) -> None:
    """A problem of one error, at a pointer."""
    (only,) = problem(response, status, code)["errors"]
    assert (only["code"], only["pointer"], only["limit"]) == (code, pointer, limit)


def post(client: httpx.Client, text: str | bytes) -> httpx.Response:
    return client.post("/v1/tasks", content=text, headers=JSON)


def create(client: httpx.Client, **body: object) -> httpx.Response:
    return client.post("/v1/tasks", json=body)
