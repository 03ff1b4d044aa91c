"""POST /v1/tasks with an Idempotency-Key."""

from __future__ import annotations

import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from app.core.ids import new_id
from tests.app.problems import OK, error, problem
from tests.app.server import Server

BODY = {"support": {"a": OK, "b": OK}}
Post = Callable[..., httpx.Response]


@pytest.fixture
def post(client: httpx.Client) -> Post:
    key = new_id("key")

    def send(key: str = key, path: str = "/v1/tasks", **how: object) -> httpx.Response:
        return client.post(path, **({"json": BODY} | how), headers={"Idempotency-Key": key})  # type: ignore[arg-type]

    return send


def test_replayed(post: Post, client: httpx.Client) -> None:
    made, again = post(), post()
    assert (made.status_code, again.status_code) == (201, 201)
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in made.headers
    assert again.headers["location"] == made.headers["location"]
    assert again.headers["x-request-id"] != made.headers["x-request-id"]
    assert {**again.json(), "timing": None} == {**made.json(), "timing": None}
    listed = [task["id"] for task in client.get("/v1/tasks?limit=200").json()["items"]]
    assert listed.count(made.json()["id"]) == 1


def test_at_once(post: Post) -> None:
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda _: post(), range(6)))
    for response in found:
        if response.status_code == 409:
            problem(response, 409, "idempotency_in_flight")
            assert response.headers["retry-after"] == "1"
    assert len({response.json()["id"] for response in found if response.status_code == 201}) == 1


def test_mismatch(post: Post) -> None:
    assert post().status_code == 201
    other = {"support": {"a": OK, "c": OK}}
    error(post(json=other), 422, "idempotency_mismatch", "/Idempotency-Key")
    error(post(path="/v1/tasks?name=x"), 422, "idempotency_mismatch", "/Idempotency-Key")


def test_a_refused_request_frees_the_key(post: Post) -> None:
    problem(post(json={"support": {"a": OK}}), 422, "too_few_classes")
    assert post().status_code == 201


def test_a_form_sent_again(post: Post, png: Callable[..., bytes]) -> None:
    files = [("cat", png(0)), ("dog", png(30))]
    made, again = post(json=None, files=files), post(json=None, files=files)
    assert made.request.headers["content-type"] != again.request.headers["content-type"]
    assert made.json()["id"] == again.json()["id"]


@pytest.mark.parametrize("key", ["", "x" * 256, "ä"])
def test_bad_key(post: Post, key: str) -> None:
    error(post(key=key.encode()), 422, "bad_format", "/Idempotency-Key")  # type: ignore[arg-type]


def test_replayed_after_a_kill(own_server: Server) -> None:
    own_server.start()
    headers = {"Idempotency-Key": "k"}
    made = own_server.client.post("/v1/tasks", json=BODY, headers=headers)
    own_server.stop(signal.SIGKILL)
    own_server.start()
    again = own_server.client.post("/v1/tasks", json=BODY, headers=headers)
    assert again.json()["id"] == made.json()["id"]
    assert again.headers["idempotency-replayed"] == "true"
