"""Learners of values, and tasks of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from tests.app.learner import save_learner
from tests.app.tasks.task_client import TaskClient

WAVE = [{"input": [x / 3], "target": [2 * math.sin(x / 3)]} for x in range(10)]
QUERIES = [[0.1], [1.7], [-3.0]]


def save(
    folder: Path, *, method: str = "cnp-regression", dim: int = 1, target: int = 1, seed: int = 0
) -> None:
    """An untrained learner of values."""
    spec: dict[str, object] = {"kind": "vector", "dim": dim}
    hparams: dict[str, object] = {"dim": dim, "target": target}
    save_learner(folder, "identity", {}, spec, seed=seed, method=method, method_hparams=hparams)


def wave(client: httpx.Client, support: Sequence[object] = WAVE, **fields: Any) -> TaskClient:
    made = client.post("/v1/tasks", json={"kind": "regression", "support": list(support), **fields})
    assert made.status_code == 201, made.text
    return TaskClient(client, made.json()["id"])


def means(answer: Mapping[str, Any]) -> list[list[float]]:
    return [found["mean"] for found in answer["predictions"]]
