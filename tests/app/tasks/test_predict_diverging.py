"""A learner whose inner steps leave the range of numbers: refused, never answered with what JSON cannot say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.app.learner import save_learner
from tests.app.problems import create, problem
from tests.app.server import Server

SUPPORT = {"left": [[30.0, 1.0, 0.0]], "right": [[-30.0, 0.0, 1.0]]}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Rates at which the weights of `wild` are infinite after a step, and those of `steep` finite but vast."""
    zoo: Path = tmp_path_factory.mktemp("zoo")
    for name, rate in (("wild", 1e38), ("steep", 1e36)):
        hparams: dict[str, object] = {"inner_lr": rate, "steps": 1}
        save_learner(zoo / name, "identity", {}, {"kind": "vector"}, method="maml", method_hparams=hparams)
    running = Server(tmp_path_factory.mktemp("server") / "data", zoo)
    running.start()
    yield running.client
    running.stop()


def test_pitfall_25_maml_inner_nan_is_refused_at_the_support_set(client: httpx.Client) -> None:
    document = problem(create(client, learner="wild", support=SUPPORT), 422, "unsupported_support")
    (only,) = document["errors"]
    assert only["pointer"] == "/support"
    assert "diverge" in only["detail"]
    assert client.get("/v1/tasks").json()["items"] == []


def test_pitfall_25_answers_that_are_not_finite_are_no_answers(client: httpx.Client) -> None:
    task = create(client, learner="steep", support=SUPPORT)
    assert task.status_code == 201, task.text
    answer = client.post(f"/v1/tasks/{task.json()['id']}/predict", json={"queries": [[1e6, 0.0, 0.0]]})
    assert answer.status_code in {422, 503}, answer.text
    assert "NaN" not in answer.text
