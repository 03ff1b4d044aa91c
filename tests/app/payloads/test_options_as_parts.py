"""Options in parts of a form, as `curl -F learner=photos` sends them, are not taken for classes."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from app.payloads.support import OPTION_NAMES, QUERY_PART
from app.streams.schemas import StreamPredictOptions
from app.tasks.schemas import CreateOptions, PredictOnceOptions, PredictOptions, PromoteOption
from tests.app.problems import error

OPTIONS = (CreateOptions, PredictOnceOptions, PredictOptions, PromoteOption, StreamPredictOptions)
VALUES = ["photos", "", "0.95", "true", "two words", "Äpfel", "line\r\n"]


def test_the_names_are_those_of_all_options() -> None:
    assert {name for model in OPTIONS for name in model.model_fields} == OPTION_NAMES


def detail(response: httpx.Response, status: int, code: str, where: str) -> str:
    error(response, status, code, where)
    return str(response.json()["detail"])


def text(name: str, value: str) -> tuple[str, tuple[None, bytes]]:
    return name, (None, value.encode())


@pytest.mark.parametrize("name", sorted(OPTION_NAMES))
@pytest.mark.parametrize("value", VALUES)
def test_a_new_task(client: httpx.Client, png: Any, name: str, value: str) -> None:
    files = [("cat", png(0)), text(name, value), ("dog", png(20))]
    said = detail(client.post("/v1/tasks", files=files), 422, "option_as_part", "/parts/1")  # type: ignore[arg-type]
    assert f"query string, as ?{name}=..." in said
    assert value.strip() not in said or not value.strip()


@pytest.mark.parametrize("path", ["/v1/predict", "/v1/tasks/{task}/predict", "/v1/streams/digits/predict"])
def test_predictions(client: httpx.Client, png: Any, path: str) -> None:
    made = client.post("/v1/tasks", files=[("cat", png(0)), ("dog", png(20))]).json()
    files = [(QUERY_PART, png(1)), text("top", "1")]
    response = client.post(path.format(task=made["id"]), files=files)  # type: ignore[arg-type]
    error(response, 422, "option_as_part", "/parts/1")
    client.delete(f"/v1/tasks/{made['id']}")


@pytest.mark.parametrize("name", ["name", "learner", "kind"])
def test_a_class_may_have_the_name_of_an_option(client: httpx.Client, png: Any, name: str) -> None:
    made = client.post("/v1/tasks", files=[(name, png(0)), ("dog", png(20))])
    assert made.status_code == 201, made.text
    assert made.json()["classes"] == [name, "dog"]
    client.delete(f"/v1/tasks/{made.json()['id']}")
    vectors = [(name, (None, b"[0, 1]", "application/json")), ("b", (None, b"[1, 0]", "application/json"))]
    made = client.post("/v1/tasks?learner=vectors", files=vectors)  # type: ignore[arg-type]
    assert made.status_code == 201, made.text
    client.delete(f"/v1/tasks/{made.json()['id']}")


def test_the_file_of_a_dataset(client: httpx.Client) -> None:
    files = [text("name", "mine"), ("file", ("a.csv", b"label,x\na,1\nb,2\n", "text/csv"))]
    response = client.post("/v1/datasets", files=files)  # type: ignore[arg-type]
    said = detail(response, 400, "invalid_multipart", "")
    assert "put options into the query string" in said
