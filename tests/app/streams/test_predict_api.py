"""Predictions by bundled streams over HTTP."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.app.conftest import Png
from tests.app.streams.bundles import DIM, TASKS, data, labels

OK = [[1.0] * DIM]
COUNTED = 'hyperserve_stream_queries_total{task="told"}'


def ask(client: httpx.Client, stream: str, **body: Any) -> httpx.Response:
    return client.post(f"/v1/streams/{stream}/predict", json=body)


def answers(client: httpx.Client, stream: str, **body: Any) -> list[dict[str, Any]]:
    response = ask(client, stream, **body)
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()["predictions"]
    return found


def queries(task: str, stream: str) -> tuple[list[list[float]], list[str]]:
    scenario = {"choices": "cl2", "heads": "cl1"}.get(stream, "cl3")
    names = labels(task, scenario)
    x, y = data(task, seed=9, shots=5, way=len(names))
    return x.tolist(), [names[index] for index in y.tolist()]


@pytest.mark.parametrize("stream", ["blobs", "choices", "heads"])
@pytest.mark.parametrize("task", TASKS)
def test_the_stream_task_is_inferred_or_named(client: httpx.Client, stream: str, task: str) -> None:
    x, right = queries(task, stream)
    inferred, named = answers(client, stream, queries=x), answers(client, stream, queries=x, task=task)
    for found in (inferred, named):
        hits = [one["label"] == label for one, label in zip(found, right, strict=True)]
        assert sum(hits) >= 0.8 * len(hits)
        assert sum(found[0]["probabilities"].values()) == pytest.approx(1)
    assert sum(one["task"] == task for one in inferred) >= 0.8 * len(x)
    assert all(0 < one["task_probability"] <= 1 and 0 <= one["unknown"] <= 1 for one in inferred)
    assert all(
        (one["task"], one["task_probability"], one["unknown"], one["epistemic"]) == (task, None, None, None)
        for one in named
    )


def test_queries_of_all_tasks_at_once_keep_their_order(client: httpx.Client) -> None:
    pairs = [queries(task, "blobs") for task in TASKS]
    x = [row for rows, _ in pairs for row in rows][::-1]
    together = answers(client, "blobs", queries=x)
    alone = [answers(client, "blobs", queries=[row])[0] for row in x]
    assert [one["label"] for one in together] == [one["label"] for one in alone]
    assert [one["confidence"] for one in together] == pytest.approx(
        [one["confidence"] for one in alone], abs=1e-5
    )


def test_the_answer_says_of_which_version_and_how_long_it_took(client: httpx.Client) -> None:
    answer = ask(client, "blobs", queries=OK, top=1, coverage=0.5).json()
    assert (answer["stream"], answer["version"], answer["task"]) == ("blobs", 1, None)
    assert answer["timing"].keys() >= {"decode", "queue", "embed", "gate", "predict", "total"}
    assert len(answer["predictions"][0]["probabilities"]) == 1
    assert ask(client, "blobs", queries=OK, task="first").json()["task"] == "first"


def test_pictures_come_as_base64_as_parts_or_as_the_body(client: httpx.Client, png: Png, b64: Any) -> None:
    where = "/v1/streams/digits/predict"
    first = answers(client, "digits", queries=[b64(0)])
    parts = client.post(where, files=[("query", ("x.png", png(0), "image/png"))])
    bare = client.post(where, params={"top": 4}, content=png(0), headers={"Content-Type": "image/png"})
    assert parts.json()["predictions"] == bare.json()["predictions"]
    assert parts.json()["predictions"][0]["label"] == first[0]["label"]


@pytest.mark.parametrize(
    ("stream", "body", "status", "code", "pointer"),
    [
        ("none", {"queries": OK}, 404, "stream_not_found", None),
        ("No+such", {"queries": OK}, 404, "stream_not_found", None),
        ("blobs", {"queries": OK, "version": 2}, 404, "stream_version_not_found", "/version"),
        ("blobs", {"queries": OK, "task": "fourth"}, 404, "stream_task_not_found", "/task"),
        ("blobs", {"queries": OK, "task": "No slug"}, 422, "bad_format", "/task"),
        ("blobs", {"queries": [[1.0, 2.0]]}, 422, "vector_length", "/queries/0"),
        ("blobs", {"queries": [*OK, {"text": "hello"}]}, 422, "wrong_kind", "/queries/1"),
        ("blobs", {"queries": []}, 422, "no_queries", "/queries"),
        ("blobs", {}, 422, "missing", "/queries"),
        ("blobs", {"queries": OK, "samples": 8}, 422, "unknown_field", "/samples"),
        ("digits", {"queries": OK}, 422, "wrong_kind", "/queries/0"),
        ("digits", {"queries": ["bm90IGFuIGltYWdl"]}, 422, "not_an_image", "/queries/0"),
    ],
)
def test_bad_requests(
    client: httpx.Client, stream: str, body: dict[str, Any], status: int, code: str, pointer: str | None
) -> None:
    response = ask(client, stream, **body)
    assert response.status_code == status, response.text
    problem = response.json()
    assert problem["code"] == code
    assert [error["pointer"] for error in problem["errors"]] == ([] if pointer is None else [pointer])


def test_numbers_that_overflow_are_no_fault_of_the_server(client: httpx.Client) -> None:
    response = ask(client, "blobs", queries=[[3e38] * DIM])
    assert response.status_code in (200, 422)
    assert "NaN" not in response.text


def test_metrics_count_queries_and_name_no_stream(client: httpx.Client) -> None:
    def count(text: str) -> float:
        (line,) = [line for line in text.splitlines() if line.startswith(COUNTED)]
        return float(line.split()[-1])

    ask(client, "blobs", queries=OK, task="first")
    before = count(client.get("/metrics").text)
    ask(client, "blobs", queries=2 * OK, task="first")
    text = client.get("/metrics").text
    assert count(text) == before + 2
    assert 'route="/v1/streams/{stream}/predict"' in text
    assert "hyperserve_stream_largest_drift" in text
    assert "blobs" not in text


def test_blank_queries_are_named(client: httpx.Client) -> None:
    answer = ask(client, "blobs", queries=[*OK, [0.0] * DIM]).json()
    assert [(notice["code"], notice["pointer"]) for notice in answer["warnings"]] == [
        ("blank_query", "/queries/1")
    ]
    assert ask(client, "blobs", queries=OK, task="first").json()["warnings"] == []
