"""The client against a real server."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import hyperserve as hs
from hyperserve import Client
from tests.app.server import Server

EXAMPLES = Path(__file__).parents[2] / "examples"
GLYPHS = EXAMPLES / "glyphs"
VECTORS = {"left": [[-1.0, 0.1], [-0.9, 0.0]], "right": [[1.0, 0.1]]}


def test_a_task_from_create_to_delete(live: Client) -> None:
    with Image.open(GLYPHS / "support/fish/2.png") as image:
        fish = [str(GLYPHS / "support/fish/1.png"), image, np.asarray(image)]
        support = {"fish": fish, "snail": [(GLYPHS / "support/snail/1.png").read_bytes()]}
        task = live.tasks.create(support, learner="glyphs", name="mixed")
    assert (task.name, task.classes, task.shots) == ("mixed", ["fish", "snail"], {"fish": 3, "snail": 1})
    queries = sorted((GLYPHS / "query").glob("*.png"))
    answer = task.predict(queries, coverage=0.8, top=2)
    assert len(answer.predictions) == len(queries)
    for found in answer.predictions:
        assert found.label in found.prediction_set
        assert math.isclose(sum(found.probabilities.values()), 1, abs_tol=1e-5)
    assert task.refresh().id == task.id == live.tasks.get(task.id).id
    assert task.id in [one.id for one in live.tasks.list(limit=200)]
    task.delete()
    with pytest.raises(hs.NotFoundError):
        task.predict(queries)
    with pytest.raises(hs.NotFoundError):
        task.delete()


def test_every_way_to_hold_an_image_gives_the_same_answer(live: Client) -> None:
    support = {
        name: sorted((GLYPHS / "support" / name).glob("*.png")) for name in ("fish", "snail", "ladder")
    }
    path = GLYPHS / "query/fish-1.png"
    with Image.open(path) as image, path.open("rb") as file:
        pixels = np.asarray(image)
        queries = [
            path,
            str(path),
            path.read_bytes(),
            file,
            image,
            pixels,
            pixels[:, :, None].repeat(3, axis=2),
        ]
        first, *others = live.predict("glyphs", support, queries).predictions
    for other in others:
        assert other.probabilities == pytest.approx(first.probabilities, abs=1e-6)


def test_vectors_go_to_the_default_learner(live: Client) -> None:
    answer = live.predict(None, VECTORS, np.array([[-1.0, 0.0], [1.0, 0.0]]))
    assert (answer.learner, answer.task) == ("vectors", None)
    assert [found.label for found in answer.predictions] == ["left", "right"]


def test_pairs_and_map_are_the_same_task(live: Client) -> None:
    pairs = [(vector, label) for label, group in VECTORS.items() for vector in group]
    by_map, by_pairs = (
        live.predict("vectors", given, [[0.3, 0.3]]).predictions[0] for given in (VECTORS, pairs)
    )
    assert by_map.probabilities == pytest.approx(by_pairs.probabilities, abs=1e-6)


def test_learners_limits_and_readiness(live: Client) -> None:
    assert live.ready()
    assert {"glyphs", "vectors"} <= {learner.name for learner in live.learners.list()}
    assert live.learners.get("glyphs").card.startswith("# glyphs")
    assert live.limits().ways_min == 2
    assert {"hyperset", "maml"} <= {method.name for method in live.methods()}


@pytest.mark.parametrize(
    ("support", "error", "pointer"),
    [
        ({"cat": [[1.0, 2.0]]}, hs.UnprocessableError, "/support"),
        ({"cat": [b"no image"], "dog": [b"no image"]}, hs.UnprocessableError, "/support/cat/0"),
        ({"cat": [[1.0]], "dog": [[1.0, 2.0]]}, hs.UnprocessableError, "/support/dog/0"),
        ({"cat": [], "dog": [[1.0]]}, hs.UnprocessableError, "/support/cat"),
        ({"": [[1.0]], "dog": [[1.0]]}, hs.StatusError, "/support/"),
    ],
)
def test_the_server_points_at_what_is_wrong(
    live: Client, support: hs.inputs.Support, error: type[hs.StatusError], pointer: str
) -> None:
    with pytest.raises(error) as raised:
        live.tasks.create(support)
    assert raised.value.problem is not None
    assert raised.value.problem.errors[0].pointer == pointer
    assert f"  {pointer}: " in str(raised.value)
    assert raised.value.request_id


def test_an_unknown_learner_and_an_unknown_task(live: Client) -> None:
    with pytest.raises(hs.UnprocessableError, match="There is no such learner"):
        live.tasks.create(VECTORS, learner="nothing")
    with pytest.raises(hs.NotFoundError):
        live.learners.get("nothing")
    with pytest.raises(hs.NotFoundError):
        live.tasks.get("task_nothing")


def test_threads_share_a_client(live: Client) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda x: live.predict("vectors", VECTORS, [[x, 0.0]]), [-1.0, 1.0] * 16))
    assert [answer.predictions[0].label for answer in answers] == ["left", "right"] * 16


@pytest.mark.parametrize("command", [[sys.executable, "quickstart.py"], ["sh", "quickstart.sh"]])
def test_the_quickstarts_work(server: Server, command: list[str]) -> None:
    environment = {**os.environ, "HYPERSERVE_URL": server.url}
    done = subprocess.run(command, cwd=EXAMPLES, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "prediction_set" in done.stdout or "umbrella-2.png" in done.stdout
    with Client(server.url) as client:
        assert client.tasks.list().all() == []


def test_the_example_of_feedback_works(server: Server) -> None:
    environment = {**os.environ, "HYPERSERVE_URL": server.url}
    command = [sys.executable, "feedback.py"]
    done = subprocess.run(command, cwd=EXAMPLES, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "* 2 from 1, feedback" in done.stdout
