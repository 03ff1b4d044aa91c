"""The OpenAPI document: complete, committed, and every example in it works."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.core.settings import REPOSITORY, Settings
from app.main import create_app
from app.payloads.openapi_examples import BOX, CROSS, WIDE_CROSS
from tests.app.problems import create
from tests.models.data.archives import folders, zipped

DOCUMENT: dict[str, Any] = create_app(Settings()).openapi()
OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}
NO_JSON: dict[str, Any] = {"examples": {}}
EXAMPLES = [
    (address, name, example["value"])
    for address, operation in OPERATIONS.items()
    if "requestBody" in operation
    for name, example in operation["requestBody"]["content"]
    .get("application/json", NO_JSON)["examples"]
    .items()
]


def test_committed() -> None:
    """`make docs` writes it."""
    assert json.loads(Path(REPOSITORY / "docs" / "openapi.json").read_text()) == DOCUMENT


def test_served(client: httpx.Client) -> None:
    assert client.get("/openapi.json").json() == DOCUMENT


@pytest.fixture
def world(client: httpx.Client) -> Iterator[dict[str, str]]:
    """What the paths and bodies of examples name: a task with a kept prediction, a dataset to learn from, a stream."""
    support = {"cross": [CROSS, WIDE_CROSS], "box": [BOX]}
    task = create(client, learner="glyphs", support=support).json()["id"]
    asked = client.post(f"/v1/tasks/{task}/predict", json={"queries": [CROSS], "store": True}).json()
    examples = client.get(f"/v1/tasks/{task}/support").json()["items"]
    # Its classes are digits, as those of the examples.
    file = zipped({path.removeprefix("class-"): data for path, data in folders(12, 8).items()}).getvalue()
    dataset = client.post("/v1/datasets", files={"file": file}).json()["id"]
    for name, body in (("copied", {"from": "digits"}), ("grown", {"input": {"kind": "image"}})):
        assert client.post("/v1/streams", json={"name": name, **body}).status_code == 201
    yield {
        "{task_id}": task,
        "{example_id}": examples[0]["id"],
        "{prediction_id}": asked["predictions"][0]["id"],
        "dataset": dataset,
        "{stream}/predict": "digits/predict",
        "{stream}/rollback": "copied/rollback",
        "{stream}": "grown",
    }
    streams = [f"streams/{name}" for name in ("copied", "grown", "signs", "words", "my-digits")]
    for path in (f"tasks/{task}", "learners/signs", *streams, f"datasets/{dataset}"):
        client.delete(f"/v1/{path}")


@pytest.mark.parametrize(
    ("address", "name", "body"), EXAMPLES, ids=[f"{a} {name}" for a, name, _ in EXAMPLES]
)
def test_examples_work(
    client: httpx.Client, world: dict[str, str], address: str, name: str, body: dict[str, Any]
) -> None:
    method, path = address.split(" ")
    for word, value in world.items():
        path = path.replace(word, value)
    given = {field: world.get(field, value) for field, value in body.items()}
    response = client.request(method, path, json=given)
    assert response.status_code in (200, 201, 202), response.text
    if "id" in (made := response.json()):
        client.delete(f"/v1/tasks/{made['id']}")


@pytest.mark.parametrize("address", OPERATIONS)
def test_every_operation_is_documented(address: str) -> None:
    operation = OPERATIONS[address]
    assert operation["summary"]
    responses = operation["responses"]
    assert {"405", "500"} <= responses.keys()
    assert sum(status.startswith("2") for status in responses) == 1
    for status, response in responses.items():
        if status >= "400":
            assert response["$ref"] == f"#/components/responses/{status}"
    if "requestBody" in operation:
        assert {"400", "408", "413", "415", "422", "503"} <= responses.keys()
        # Whatever takes files takes them as parts of a form.
        taken = operation["requestBody"]["content"].keys()
        assert taken == {"application/json"} or "multipart/form-data" in taken


def test_problems_are_problem_documents() -> None:
    for status, response in DOCUMENT["components"]["responses"].items():
        ((media_type, content),) = response["content"].items()
        assert media_type == "application/problem+json"
        assert content["example"]["status"] == int(status)
