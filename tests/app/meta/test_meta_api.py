"""Health, limits and the catalogue of problems."""

from __future__ import annotations

import httpx
import pytest


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_health(client: httpx.Client, path: str) -> None:
    response = client.get(path)
    assert (response.status_code, response.json()["status"]) == (200, "ok")


def test_limits(client: httpx.Client) -> None:
    assert client.get("/v1/limits").json() == {
        "json_bytes": 33_554_432,
        "multipart_bytes": 134_217_728,
        "multipart_parts": 1_000,
        "ways_min": 2,
        "ways_max": 1_000,
        "support_examples": 20_000,
        "queries": 1_024,
        "samples": 256,
        "label_characters": 200,
        "vector_length": 8_192,
        "target_length": 256,
        "text_characters": 8_192,
        "image_bytes": 20_971_520,
        "image_pixels": 40_000_000,
        "dataset_bytes": 2_147_483_648,
        "dataset_unpacked_bytes": 4_294_967_296,
        "dataset_members": 500_000,
        "dataset_examples": 2_000_000,
        "dataset_classes": 20_000,
        "training_steps": 200_000,
        "stream_tasks": 1_000,
        "held_out": 2_000,
    }


def test_type_of_a_problem_is_served(client: httpx.Client) -> None:
    problem = client.get("/v1/tasks/nope").json()
    kind = client.get(problem["type"]).json()
    assert (kind["code"], kind["status"], kind["title"]) == (
        problem["code"],
        problem["status"],
        problem["title"],
    )
    assert kind["detail"]
    assert kind in client.get("/problems").json()["items"]
    assert client.get("/problems/nope").status_code == 404
