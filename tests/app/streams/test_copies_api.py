"""Copies of bundled streams: they answer alike, can be changed, and are gone as soon as they are deleted."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.app.streams.bundles import TASKS, data
from tests.app.streams.stream_requests import register, uploaded, vectors
from tests.app.streams.test_predict_api import OK, ask


@pytest.fixture
def mine(client: httpx.Client, clean: None) -> str:
    made = client.post("/v1/streams", json={"name": "mine", "from": "blobs"})
    assert made.status_code == 201, made.text
    assert (made.json()["version"], made.json()["tasks"], made.json()["bundled"]) == (1, 3, False)
    return "mine"


def answered(client: httpx.Client, stream: str, **body: Any) -> dict[str, float]:
    """Confidence of the label of each query; to compare nearly, as batches depend on time."""
    x = [row for task in TASKS for row in data(task, seed=9, shots=2)[0].tolist()]
    answer = ask(client, stream, queries=x, **body)
    assert answer.status_code == 200, answer.text
    found = answer.json()["predictions"]
    return {f"{index} {one['label']}": one["confidence"] for index, one in enumerate(found)}


def test_a_copy_answers_as_its_source(client: httpx.Client, mine: str) -> None:
    assert answered(client, mine) == pytest.approx(answered(client, "blobs"))
    named = answered(client, "blobs", task="second")
    assert answered(client, mine, task="second", version=1) == pytest.approx(named)


def test_a_copy_lists_what_its_source_does(client: httpx.Client, mine: str) -> None:
    """Stream tasks in the order of registration, and the version that answers by its number."""
    for name in ("blobs", mine):
        listed = client.get(f"/v1/streams/{name}/tasks").json()["items"]
        versions = client.get(f"/v1/streams/{name}/versions").json()["items"]
        assert [one["name"] for one in listed] == list(TASKS)
        number = ask(client, name, queries=OK).json()["version"]
        assert client.get(f"/v1/streams/{name}").json()["version"] == number
        assert [one["number"] for one in versions] == [number]


def test_what_is_deleted_is_not_answered_from_memory(client: httpx.Client, mine: str) -> None:
    answered(client, mine)
    assert client.delete(f"/v1/streams/{mine}").status_code == 204
    response = ask(client, mine, queries=OK)
    assert (response.status_code, response.json()["code"]) == (404, "stream_not_found")


def test_a_stream_without_a_version_says_so(client: httpx.Client, points: str) -> None:
    response = ask(client, points, queries=OK)
    assert (response.status_code, response.json()["code"]) == (409, "stream_empty")


def test_a_stream_task_that_waits_says_so(client: httpx.Client, mine: str) -> None:
    # Nobody works here: the job stays in the queue.
    eight = uploaded(client, vectors("x", "y", dim=8))
    assert register(client, "fourth", eight, stream=mine).status_code == 202
    response = ask(client, mine, queries=OK, task="fourth")
    assert (response.status_code, response.json()["code"]) == (409, "stream_task_not_ready")


def test_those_of_the_server_are_not_to_change(client: httpx.Client) -> None:
    assert [one["name"] for one in client.get("/v1/streams").json()["items"] if one["bundled"]] == [
        "blobs",
        "choices",
        "digits",
        "heads",
    ]
    for refused in (
        client.delete("/v1/streams/blobs"),
        client.post("/v1/streams/blobs/tasks/first/forget"),
        client.post("/v1/streams/blobs/rollback", json={"version": 1}),
    ):
        assert (refused.status_code, refused.json()["code"]) == (409, "stream_bundled")
        assert '"from": "blobs"' in refused.json()["detail"]
