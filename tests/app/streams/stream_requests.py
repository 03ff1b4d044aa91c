"""Requests of tests for streams and datasets."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np

CSV = {"Content-Type": "text/csv"}
DIM = 4


def vectors(*labels: str, examples: int = 20, dim: int = DIM, seed: int = 0) -> bytes:
    """A CSV of clouds far apart, the same for the same labels."""
    rows = []
    for label in labels:
        key = int.from_bytes(label.encode()[-4:], "big")
        center = 6 * np.random.default_rng(key).standard_normal(dim)
        cloud = center + 0.3 * np.random.default_rng([key, seed]).standard_normal((examples, dim))
        rows += [f"{label},{','.join(f'{value:.4f}' for value in row)}" for row in cloud]
    return "\n".join(rows).encode()


def uploaded(client: httpx.Client, data: bytes, headers: dict[str, str] = CSV) -> str:
    made = client.post("/v1/datasets", content=data, headers=headers)
    assert made.status_code == 201, made.text
    id: str = made.json()["id"]
    return id


def create(client: httpx.Client, name: str = "points", **body: Any) -> httpx.Response:
    described = {
        "method": "analytic",
        "hparams": {"features": {"count": 32}},
        "input": {"kind": "vector", "dim": DIM},
    }
    return client.post("/v1/streams", json={"name": name, **described, **body})


def register(
    client: httpx.Client, name: str, dataset: str, stream: str = "points", **body: Any
) -> httpx.Response:
    return client.post(f"/v1/streams/{stream}/tasks", json={"name": name, "dataset": dataset, **body})
