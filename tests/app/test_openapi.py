"""The OpenAPI document: complete, committed, and every example in it works."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.main import create_app
from app.settings import REPOSITORY, Settings
from app.tasks.documents import BOX, CROSS
from tests.app.problems import create

DOCUMENT: dict[str, Any] = create_app(Settings()).openapi()
OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}
EXAMPLES = [
    (address, name, example["value"])
    for address, operation in OPERATIONS.items()
    if "requestBody" in operation
    for name, example in operation["requestBody"]["content"]["application/json"]["examples"].items()
]


def test_committed() -> None:
    """`make docs` writes it."""
    assert json.loads(Path(REPOSITORY / "docs" / "openapi.json").read_text()) == DOCUMENT


def test_served(client: httpx.Client) -> None:
    assert client.get("/openapi.json").json() == DOCUMENT


@pytest.mark.parametrize(
    ("address", "name", "body"), EXAMPLES, ids=[f"{a} {name}" for a, name, _ in EXAMPLES]
)
def test_examples_work(client: httpx.Client, address: str, name: str, body: dict[str, Any]) -> None:
    task = create(client, learner="glyphs", support={"cross": [CROSS], "box": [BOX]}).json()["id"]
    response = client.post(address.removeprefix("POST ").replace("{task_id}", task), json=body)
    assert response.status_code in (200, 201), response.text
    for made in (task, response.json().get("id", task)):
        client.delete(f"/v1/tasks/{made}")


@pytest.mark.parametrize("address", OPERATIONS)
def test_every_operation_is_documented(address: str) -> None:
    operation = OPERATIONS[address]
    assert operation["summary"]
    responses = operation["responses"]
    assert {"405", "500"} <= responses.keys()
    assert sum(status.startswith("2") for status in responses) == 1
    for status, response in responses.items():
        if not status.startswith("2"):
            assert response["$ref"] == f"#/components/responses/{status}"
    if "requestBody" in operation:
        assert {"400", "408", "413", "415", "422", "503"} <= responses.keys()
        assert {"application/json", "multipart/form-data"} <= operation["requestBody"]["content"].keys()


def test_problems_are_problem_documents() -> None:
    for status, response in DOCUMENT["components"]["responses"].items():
        ((media_type, content),) = response["content"].items()
        assert media_type == "application/problem+json"
        assert content["example"]["status"] == int(status)
