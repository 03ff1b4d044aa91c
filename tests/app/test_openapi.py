"""The OpenAPI document: complete, and every example in it works."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from app.main import create_app
from app.settings import Settings
from tests.app.problems import OK, create

DOCUMENT: dict[str, Any] = create_app(Settings()).openapi()
OPERATIONS = [
    (path, method, operation)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
]
BODIES = [
    (path, name, example["value"])
    for path, _, operation in OPERATIONS
    for name, example in operation.get("requestBody", {"content": {}})["content"]
    .get("application/json", {"examples": {}})["examples"]
    .items()
]


@pytest.mark.parametrize(("path", "name", "body"), BODIES, ids=lambda value: str(value)[:30])
def test_examples_work(client: httpx.Client, path: str, name: str, body: dict[str, Any]) -> None:
    task = None
    if "{task_id}" in path:
        images = create(client, learner="glyphs", **_support()).json()["id"]
        path, task = path.replace("{task_id}", images), images
    response = client.post(path, json=body)
    assert response.status_code in (200, 201), response.text
    for made in (task, response.json().get("id")):
        if made:
            client.delete(f"/v1/tasks/{made}")


def _support() -> dict[str, Any]:
    return next(value for path, name, value in BODIES if path == "/v1/predict" and name == "images") and {
        "support": next(value for path, name, value in BODIES if path == "/v1/tasks" and name == "images")[
            "support"
        ]
    }


@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS, ids=lambda value: str(value)[:30])
def test_every_operation_is_documented(path: str, method: str, operation: dict[str, Any]) -> None:
    assert operation["summary"]
    responses = operation["responses"]
    assert {"405", "500"} <= responses.keys()
    assert sum(status.startswith("2") for status in responses) == 1
    for status, response in responses.items():
        if not status.startswith("2"):
            assert response["$ref"] == f"#/components/responses/{status}"
    if "requestBody" in operation:
        assert {"400", "413", "415", "422", "503"} <= responses.keys()
        assert {"application/json", "multipart/form-data"} <= operation["requestBody"]["content"].keys()


def test_problems_are_problem_documents() -> None:
    for status, response in DOCUMENT["components"]["responses"].items():
        (content,) = response["content"].items()
        assert content[0] == "application/problem+json"
        assert content[1]["example"]["status"] == int(status)


def test_is_served(client: httpx.Client) -> None:
    assert client.get("/openapi.json").json() == DOCUMENT
    assert OK
