"""A release replaces a learner: old tasks go on, under the new one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.app.learner import save_learner
from tests.app.problems import create, problem
from tests.app.server import Server
from tests.app.tasks.database_rows import assert_empty, rows
from tests.app.tasks.task_client import CORNERS, TaskClient, new_task

B64 = Callable[..., str]


def test_replaced_learner(own_server: Server, zoo: Path, tmp_path: Path, b64: B64) -> None:
    """A release brings another learner of the same name: the task goes on under it as a new version, and says so."""
    own_server.learners_dir = tmp_path / "zoo"
    shutil.copytree(zoo, own_server.learners_dir)
    own_server.start()
    support = {"cat": [b64(0), b64(2)], "dog": [b64(30)]}
    task = create(own_server.client, learner="glyphs", support=support).json()
    own_server.stop()
    shutil.rmtree(own_server.learners_dir / "glyphs")
    save_learner(own_server.learners_dir / "glyphs", "conv4", {"width": 8}, {"kind": "image"}, seed=1)
    own_server.start()
    with ThreadPoolExecutor(4) as pool:
        address, body = f"/v1/tasks/{task['id']}/predict", {"queries": [b64(1)]}
        answers = [
            one.json() for one in pool.map(lambda _: own_server.client.post(address, json=body), range(4))
        ]
    again = own_server.client.post(address, json=body).json()
    assert {answer["version"] for answer in (*answers, again)} == {2}
    assert answers[0]["warnings"][0]["code"] == "learner_replaced"
    assert again["warnings"] == []
    renewed = own_server.client.get(f"/v1/tasks/{task['id']}").json()
    assert renewed["version"] == 2
    assert renewed["learner_digest"] != task["learner_digest"]
    assert (renewed["classes"], renewed["shots"]) == (task["classes"], task["shots"])
    once = own_server.client.post(
        "/v1/predict", json={"learner": "glyphs", "support": support, **body}
    ).json()
    assert again["predictions"][0]["probabilities"] == pytest.approx(
        once["predictions"][0]["probabilities"], abs=1e-5
    )
    assert rows(own_server) == {"tasks": 1, "versions": 2, "examples": 3, "version_examples": 6}
    shutil.rmtree(own_server.learners_dir / "glyphs")
    own_server.stop()
    own_server.start()
    problem(own_server.client.post(address, json=body), 503, "learner_unavailable")
    assert own_server.client.delete(f"/v1/tasks/{task['id']}").status_code == 204
    assert_empty(own_server)


def test_replaced_learner_and_history(own_server: Server, zoo: Path, tmp_path: Path) -> None:
    """Every version that is asked goes on under the learner that is served, once, whichever release that is."""

    def release(metric: str, id: str = "") -> TaskClient:
        if hasattr(own_server, "process"):
            own_server.stop()
        shutil.rmtree(own_server.learners_dir / "vectors")
        folder, hparams = own_server.learners_dir / "vectors", {"metric": metric}
        save_learner(folder, "identity", {}, {"kind": "vector"}, method_hparams=dict(hparams))
        own_server.start()
        return TaskClient(own_server.client, id)

    own_server.learners_dir = tmp_path / "zoo"
    shutil.copytree(zoo, own_server.learners_dir)
    task = new_task(release("euclidean").client)
    task.add({"c": [CORNERS["c"]]})
    task = release("cosine", task.id)
    assert task.predict(CORNERS["c"])["version"] == 3
    assert task.predict(CORNERS["a"], version=1)["version"] == 4
    assert task.predict(CORNERS["a"], version=1)["warnings"][0]["code"] == "learner_replaced", "every time"
    assert task.predict(CORNERS["a"])["warnings"] == []
    assert task.current == 3
    assert task.add({"b": [CORNERS["b"]]})["version"] == 5
    assert [(one["parent"], one["origin"]) for one in task.versions()] == [
        (3, "support"),
        (1, "renewed"),
        (2, "renewed"),
        (1, "support"),
        (None, "created"),
    ]
    task = release("euclidean", task.id)
    assert [task.predict(CORNERS["a"], version=number)["version"] for number in (1, 2, 3, 4)] == [1, 2, 2, 1]
    assert task.current == 5
    assert task.predict(CORNERS["a"])["version"] == 6
    assert (task.current, len(task.versions())) == (6, 6)
