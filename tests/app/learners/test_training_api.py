"""Asking for a learner. No worker runs here: jobs wait in the queue."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.app.problems import error, problem
from tests.models.data.archives import folders, zipped

CSV = {"Content-Type": "text/csv"}


def vectors(classes: int, examples: int) -> bytes:
    rows = (f"class-{c},{c},{e},{c * e}" for c in range(classes) for e in range(examples))
    return "\n".join(rows).encode()


@pytest.fixture
def dataset(client: httpx.Client) -> Iterator[str]:
    """Of 12 classes with 8 vectors each."""
    yield from uploaded(client, vectors(12, 8), CSV)


@pytest.fixture
def pictures(client: httpx.Client) -> Iterator[str]:
    yield from uploaded(client, zipped(folders(12, 8)).getvalue(), {"Content-Type": "application/zip"})


def uploaded(client: httpx.Client, data: bytes, headers: dict[str, str]) -> Iterator[str]:
    made = client.post("/v1/datasets", content=data, headers=headers)
    assert made.status_code == 201, made.text
    id = made.json()["id"]
    yield id
    for learner in client.get("/v1/learners").json()["items"]:
        if learner["dataset"] == id:
            client.delete(f"/v1/learners/{learner['name']}")
    assert client.delete(f"/v1/datasets/{id}").status_code == 204


def train(client: httpx.Client, dataset: str, name: str = "mine", **body: Any) -> httpx.Response:
    return client.post("/v1/learners", json={"name": name, "encoder": "identity", "dataset": dataset, **body})


def test_a_job_and_a_learner_in_the_making(client: httpx.Client, dataset: str) -> None:
    response = train(client, dataset, steps=7, seed=3)
    assert response.status_code == 202, response.text
    made = response.json()
    job, learner = made["job"], made["learner"]
    assert response.headers["location"] == f"/v1/jobs/{job['id']}"
    assert (job["kind"], job["state"], job["subject"]) == ("train", "queued", "learners/mine")
    assert (learner["name"], learner["status"], learner["job"]) == ("mine", "training", job["id"])
    assert (learner["digest"], learner["input"], learner["dataset"]) == (None, None, dataset)
    assert learner in client.get("/v1/learners").json()["items"]
    assert client.get("/v1/learners/mine").json() == {**learner, "card": ""}
    body = {"learner": "mine", "support": {"a": [[1.0]], "b": [[2.0]]}}
    problem(client.post("/v1/tasks", json=body), 422, "unknown_learner")


def test_a_dataset_in_use_stays(client: httpx.Client, dataset: str) -> None:
    job = train(client, dataset).json()["job"]["id"]
    problem(client.delete(f"/v1/datasets/{dataset}"), 409, "dataset_in_use")
    assert client.post(f"/v1/jobs/{job}/cancel").status_code == 202


def test_a_cancelled_training_is_a_failed_learner_whose_name_is_free(
    client: httpx.Client, dataset: str
) -> None:
    first = train(client, dataset).json()["job"]["id"]
    problem(train(client, dataset), 409, "learner_exists")
    client.post(f"/v1/jobs/{first}/cancel")
    failed = client.get("/v1/learners/mine").json()
    assert (failed["status"], failed["error"]["code"]) == ("failed", "cancelled")
    again = train(client, dataset)
    assert again.status_code == 202
    assert again.json()["learner"]["status"] == "training"


def test_deleting_a_learner_in_the_making_cancels_its_job(client: httpx.Client, dataset: str) -> None:
    job = train(client, dataset).json()["job"]["id"]
    assert client.delete("/v1/learners/mine").status_code == 204
    assert client.get(f"/v1/jobs/{job}").json()["state"] == "cancelled"
    problem(client.get("/v1/learners/mine"), 404, "learner_not_found")


def test_a_key_makes_it_safe_to_ask_again(client: httpx.Client, dataset: str) -> None:
    body = {"name": "mine", "encoder": "identity", "dataset": dataset}
    headers = {"Idempotency-Key": "train-1"}
    first, second = (client.post("/v1/learners", json=body, headers=headers) for _ in range(2))
    assert (first.status_code, second.status_code) == (202, 202)
    assert second.json() == first.json()
    assert second.headers["location"] == first.headers["location"]


@pytest.mark.parametrize(
    ("body", "code", "pointer", "limit"),
    [
        ({"method": "magic"}, "unknown_method", "/method", None),
        ({"encoder": "magic"}, "unknown_encoder", "/encoder", None),
        ({"encoder": "conv4"}, "wrong_kind", "/encoder", None),
        ({"encoder": "conv4-rgb"}, "wrong_kind", "/encoder", None),
        ({"dataset": "ds_01jd8m6k0v5v4q2c9y7t3n1x0z"}, "unknown_dataset", "/dataset", None),
        ({"dataset": "../secret"}, "unknown_dataset", "/dataset", None),
        ({"name": "My Learner"}, "bad_format", "/name", None),
        ({"name": "glyphs"}, "learner_exists", "/name", None),
        ({"hparams": {"nope": 1}}, "invalid_hparams", "/hparams", None),
        ({"hparams": {"width": 100_000}}, "invalid_hparams", "/hparams", None),
        ({"hparams": {"width": 65}}, "invalid_hparams", "/hparams", None),
        ({"steps": 0}, "out_of_range", "/steps", 1),
        ({"steps": 200_001}, "out_of_range", "/steps", 200_000),
        ({"seed": -1}, "out_of_range", "/seed", 0),
        ({"ways": {"min": 6, "max": 5}}, "out_of_range", "/ways/max", 6),
        ({"shots": {"min": 2, "max": 1}}, "out_of_range", "/shots/max", 2),
        ({"ways": {"min": 9, "max": 9}}, "dataset_too_small", "/dataset", 13),
        ({"shots": {"min": 4, "max": 5}}, "dataset_too_small", "/dataset", 9),
        ({"queries": 8}, "dataset_too_small", "/dataset", 9),
        ({"stepps": 3}, "unknown_field", "/stepps", None),
    ],
)
def test_what_cannot_be_trained_is_said_at_once(
    client: httpx.Client, dataset: str, body: dict[str, Any], code: str, pointer: str, limit: float | None
) -> None:
    response = train(client, **{"dataset": dataset, **body})
    error(response, 409 if code == "learner_exists" else 422, code, pointer, limit)


def test_a_method_of_a_fixed_way(client: httpx.Client, pictures: str) -> None:
    body = {"method": "hypershot", "encoder": "conv4"}
    asked = {**body, "ways": {"min": 2, "max": 5}}
    error(train(client, pictures, **asked), 422, "unsupported_way", "/ways", 5)
    assert train(client, pictures, **body).status_code == 202


def test_what_is_short_is_named(client: httpx.Client, dataset: str) -> None:
    found = problem(train(client, dataset, ways={"min": 9, "max": 9}), 422, "dataset_too_small")
    assert "12 classes, of which 3 are held out" in found["detail"]
    found = problem(train(client, dataset, queries=8), 422, "dataset_too_small")
    assert "class-0 has 8 examples" in found["detail"]


def test_unknown_options_and_other_bodies(client: httpx.Client, dataset: str) -> None:
    error(client.post("/v1/learners?what=1", json={}), 422, "unknown_field", "/what")
    problem(client.post("/v1/learners", content=b"x", headers=CSV), 415, "unsupported_media_type")
    problem(client.post("/v1/learners", json=[]), 422, "wrong_type")
