"""Streams over HTTP: created, listed, read, deleted; bad requests."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.app.problems import error, problem
from tests.app.streams.stream_requests import create

pytestmark = pytest.mark.usefixtures("clean")


def test_make_read_list_delete(client: httpx.Client) -> None:
    made = create(client, seed=3, alarm={"drift": 0.25})
    assert made.status_code == 201, made.text
    assert (made.headers["location"], made.headers["etag"]) == ("/v1/streams/points", '"1"')
    stream = made.json()
    assert stream["hparams"]["features"]["count"] == 32
    assert stream.pop("hparams").keys() == {"features", "precision", "sample", "pixels"}, (
        "every default is written out"
    )
    assert stream == {
        "name": "points",
        "method": "analytic",
        "scenario": "cl3",
        "input": {"kind": "vector", "dim": 4},
        "encoder": None,
        "encoder_digest": None,
        "shape": [4],
        "seed": 3,
        "version": None,
        "tasks": 0,
        "alarm": {"drift": 0.25, "fall": 0.05},
        "bundled": False,
        "created_at": stream["created_at"],
    }
    read = client.get("/v1/streams/points")
    assert read.json() == made.json()
    assert (
        client.get("/v1/streams/points", headers={"If-None-Match": read.headers["etag"]}).status_code == 304
    )
    assert made.json() in client.get("/v1/streams").json()["items"]
    for listed in ("tasks", "versions"):
        assert client.get(f"/v1/streams/points/{listed}").json() == {"items": [], "next_cursor": None}
    problem(client.delete("/v1/streams/points", headers={"If-Match": '"9"'}), 412, "precondition_failed")
    assert client.delete("/v1/streams/points").status_code == 204
    problem(client.get("/v1/streams/points"), 404, "stream_not_found")


def test_pages_go_by_name(client: httpx.Client) -> None:
    for name in ("b", "a-1", "a"):
        assert create(client, name).status_code == 201
    first = client.get("/v1/streams", params={"limit": 2}).json()
    second = client.get("/v1/streams", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    names = [stream["name"] for page in (first, second) for stream in page["items"]]
    assert names[:3] == ["a", "a-1", "b"]
    error(client.get("/v1/streams", params={"cursor": "!"}), 422, "bad_cursor", "/cursor")


def test_a_key_makes_one_stream(client: httpx.Client) -> None:
    body = {"name": "points", "method": "analytic", "input": {"kind": "vector", "dim": 4}}
    first, second = (
        client.post("/v1/streams", json=body, headers={"Idempotency-Key": "streams-1"}) for _ in range(2)
    )
    assert (first.status_code, second.status_code, first.json()) == (201, 201, second.json())
    assert second.headers["idempotency-replayed"] == "true"
    problem(create(client), 409, "stream_exists")
    client.delete("/v1/streams/points")
    gone = client.post("/v1/streams", json=body, headers={"Idempotency-Key": "streams-1"})
    problem(gone, 410, "idempotency_deleted")


@pytest.mark.parametrize(
    ("taken", "shape"),
    [
        ({"kind": "image", "size": 28}, [1, 28, 28]),
        ({"kind": "image", "size": 32, "channels": 3}, [3, 32, 32]),
        ({"kind": "vector", "dim": 7}, [7]),
    ],
)
def test_inputs(client: httpx.Client, taken: dict[str, Any], shape: list[int]) -> None:
    stream = create(client, input=taken, hparams={}).json()
    assert stream["shape"] == shape
    assert stream["input"].items() >= taken.items()


def test_the_frozen_encoder_of_a_learner(client: httpx.Client) -> None:
    body = {"name": "points", "method": "analytic", "learner": "glyphs"}
    made = client.post("/v1/streams", json=body)
    assert made.status_code == 201, made.text
    stream = made.json()
    learner = client.get("/v1/learners/glyphs").json()
    assert (stream["encoder"], stream["input"]) == ("glyphs", learner["input"])
    assert stream["encoder_digest"].startswith(learner["digest"])
    assert len(stream["shape"]) == 1


@pytest.mark.parametrize(
    ("body", "status", "code", "pointer"),
    [
        ({"method": "nope"}, 422, "unknown_method", "/method"),
        ({"scenario": "cl4"}, 422, "bad_format", "/scenario"),
        ({"hparams": {"nope": 1}}, 422, "invalid_hparams", "/hparams"),
        ({"hparams": {"features": {"count": 0}}}, 422, "invalid_hparams", "/hparams"),
        ({"hparams": {"features": {"kind": "patches"}}}, 422, "invalid_hparams", "/hparams"),
        ({"method": "hypernetwork", "hparams": {"target": "lenet"}}, 422, "invalid_hparams", "/hparams"),
        ({"method": "hypernetwork", "hparams": {"hidden": [10**9]}}, 422, "invalid_hparams", "/hparams"),
        (
            {"method": "hypernetwork", "hparams": {"hidden": [65_536] * 2}},
            422,
            "invalid_hparams",
            "/hparams",
        ),
        ({"input": {"kind": "text"}}, 422, "bad_format", "/input"),
        ({"input": {"kind": "vector"}}, 422, "missing", "/input/dim"),
        ({"input": {"kind": "vector", "dim": 0}}, 422, "out_of_range", "/input/dim"),
        ({"input": {"kind": "vector", "dim": 99_999}}, 422, "out_of_range", "/input/dim"),
        ({"input": {"kind": "image", "size": 1}}, 422, "out_of_range", "/input/size"),
        ({"input": {"kind": "image", "depth": 3}}, 422, "unknown_field", "/input/depth"),
        ({"input": None}, 422, "missing", "/input"),
        ({"learner": "glyphs"}, 422, "given_twice", "/input"),
        ({"input": None, "learner": "nope"}, 422, "unknown_learner", "/learner"),
        ({"input": None, "learner": "vectors"}, 422, "unusable_encoder", "/learner"),
        ({"input": None, "learner": "regression"}, 422, "unusable_encoder", "/learner"),
        ({"alarm": {"drift": 0}}, 422, "out_of_range", "/alarm/drift"),
        ({"seed": -1}, 422, "out_of_range", "/seed"),
        ({"name": "No Slug"}, 422, "bad_format", "/name"),
        ({"more": 1}, 422, "unknown_field", "/more"),
        ({"from": "blobs"}, 422, "given_twice", "/method"),
    ],
)
def test_what_no_stream_can_be(
    client: httpx.Client, body: dict[str, Any], status: int, code: str, pointer: str
) -> None:
    first = problem(create(client, **body), status, code)["errors"][0]
    assert first["pointer"] == pointer
    problem(client.get("/v1/streams/points"), 404, "stream_not_found")


def test_a_copy_of_none(client: httpx.Client) -> None:
    error(client.post("/v1/streams", json={"name": "points", "from": "nope"}), 422, "unknown_stream", "/from")
    problem(create(client, "blobs"), 409, "stream_exists")


@pytest.mark.parametrize("name", ["nope", "Not A Slug", "x" * 70])
def test_streams_that_are_not_there(client: httpx.Client, name: str) -> None:
    for path in ("", "/tasks", "/tasks/a", "/versions"):
        problem(client.get(f"/v1/streams/{name}{path}"), 404, "stream_not_found")
    problem(client.delete(f"/v1/streams/{name}"), 404, "stream_not_found")
    problem(client.post(f"/v1/streams/{name}/tasks/a/forget"), 404, "stream_not_found")
    problem(client.post(f"/v1/streams/{name}/rollback", json={"version": 1}), 404, "stream_not_found")


@pytest.mark.parametrize("task", ["nope", "%00", "A b", "x" * 70])
def test_stream_tasks_that_are_not_there(client: httpx.Client, task: str) -> None:
    create(client)
    problem(client.get(f"/v1/streams/points/tasks/{task}"), 404, "stream_task_not_found")
    problem(client.post(f"/v1/streams/points/tasks/{task}/forget"), 404, "stream_task_not_found")
