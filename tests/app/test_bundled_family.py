"""Every learner that comes with hyperserve answers over HTTP, with the uncertainty that its method has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from app.core.settings import REPOSITORY
from models import artifact
from models.artifact import Artifact
from tests.app.server import Server

ZOO = REPOSITORY / "models" / "zoo"
GLYPHS = REPOSITORY / "examples" / "glyphs"
FIVE = ("balance", "fish", "ladder", "snail", "trident")
NAMES = sorted(folder.name for folder in ZOO.iterdir() if folder.is_dir())
EVERY = {name: artifact.load(ZOO / name) for name in NAMES}


@pytest.fixture(scope="module")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    server = Server(tmp_path_factory.mktemp("family") / "data", ZOO)
    server.start()
    yield server.client
    server.stop()


def of_kind(kind: str, task: str = "classification") -> list[str]:
    return [
        name
        for name, found in EVERY.items()
        if found.config.input.kind == kind and found.learner.traits.kind == task
    ]


def drawings(client: httpx.Client, learner: str, classes: tuple[str, ...] = FIVE) -> httpx.Response:
    parts = [
        (label, file.read_bytes())
        for label in classes
        for file in sorted((GLYPHS / "support" / label).glob("*.png"))
    ]
    return client.post("/v1/tasks", files=parts, params={"learner": learner})


def says(prediction: dict[str, Any], found: Artifact) -> None:
    """A share of the entropy where weights are sampled, null where there is nothing to sample; never made up."""
    assert sum(prediction["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert 0 <= prediction["unknown"] <= 1
    assert prediction["prediction_set"]
    if found.learner.traits.stochastic:
        assert 0 <= prediction["epistemic"] <= prediction["entropy"] + 1e-6
    else:
        assert prediction["epistemic"] is None


@pytest.mark.parametrize("name", of_kind("image"))
def test_it_knows_the_drawings(bundled: httpx.Client, name: str) -> None:
    task = drawings(bundled, name).raise_for_status().json()
    files = sorted((GLYPHS / "query").glob("*.png"))
    queries = [("query", file.read_bytes()) for file in files]
    answer = bundled.post(f"/v1/tasks/{task['id']}/predict", files=queries).raise_for_status().json()
    known = [
        (file.stem.rsplit("-", 1)[0], prediction)
        for file, prediction in zip(files, answer["predictions"], strict=True)
    ]
    for _, prediction in known:
        says(prediction, EVERY[name])
    right = [label == prediction["label"] for label, prediction in known if label in FIVE]
    # A learner of photos is not at home here.
    colour = getattr(EVERY[name].config.input, "channels", 1) == 3
    assert sum(right) >= len(right) // 2 if colour else sum(right) >= len(right) - 1


@pytest.mark.parametrize("name", [name for name in of_kind("image") if EVERY[name].learner.traits.ways.high])
def test_another_way_is_refused_with_those_it_takes_and_who_takes_any(
    bundled: httpx.Client, name: str
) -> None:
    answer = drawings(bundled, name, FIVE[:3])
    assert answer.status_code == 422
    problem = answer.json()
    assert problem["errors"][0]["limit"] == 5
    assert "glyphs" in problem["detail"] + problem["errors"][0]["detail"]


@pytest.mark.parametrize("name", of_kind("vector", "regression"))
def test_it_knows_a_sinusoid_by_ten_points(bundled: httpx.Client, name: str) -> None:
    points = [[-4.5], [-3.5], [-2.5], [-1.5], [-0.5], [0.5], [1.5], [2.5], [3.5], [4.5]]
    heights = [[-1.955], [-0.702], [1.197], [1.995], [0.959], [-0.959], [-1.995], [-1.197], [0.702], [1.955]]
    support = [{"input": x, "target": y} for x, y in zip(points, heights, strict=True)]
    body = {"kind": "regression", "learner": name, "support": support, "queries": [[1.0], [-3.0]]}
    answer = bundled.post("/v1/predict", json={**body, "targets": [[-1.683], [0.282]]}).raise_for_status()
    for estimate, truth in zip(answer.json()["predictions"], (-1.683, 0.282), strict=True):
        assert estimate["mean"][0] == pytest.approx(truth, abs=1.0)
        assert estimate["aleatoric"][0] > 0
        assert (estimate["epistemic"] is not None) == EVERY[name].learner.traits.exact_posterior
        (low, high) = estimate["interval"][0]
        assert low < estimate["mean"][0] < high
        assert estimate["nll"] is not None
