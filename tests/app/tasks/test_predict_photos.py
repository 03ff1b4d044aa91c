"""A learner of colour pictures is served through the same API as one of strokes, and beside it."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import torch

from models import artifact
from models.inputs import ImageBytes, PhotoInput
from models.protocol import Support
from tests.app.learner import save_learner
from tests.app.problems import create, error
from tests.app.server import Server
from tests.models.photo_data import photos, png

PHOTOS = photos(classes=3, examples=4)
WIDTHS = [8, 8, 8, 8]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`photos` takes pictures in colour, `glyphs`, the default, of strokes."""
    zoo = tmp_path_factory.mktemp("coloured")
    spec: dict[str, object] = {"kind": "image", "size": 32, "channels": 3}
    save_learner(zoo / "photos", "conv4-rgb", {"widths": WIDTHS, "mirrored": True}, spec)
    save_learner(zoo / "glyphs", "conv4", {"width": 8}, {"kind": "image"})
    running = Server(tmp_path_factory.mktemp("server") / "data", zoo)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def client(server: Server) -> httpx.Client:
    return server.client


def encoded(index: int, kind: str = "PNG") -> str:
    return base64.b64encode(png(PHOTOS.inputs[index], kind)).decode()


def support(shots: int = 2) -> dict[str, list[str]]:
    return {f"class-{c}": [encoded(4 * c + shot) for shot in range(shots)] for c in range(3)}


def predictions(client: httpx.Client, task: str, queries: list[str]) -> list[dict[str, Any]]:
    answer = client.post(f"/v1/tasks/{task}/predict", json={"queries": queries})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["predictions"]
    return found


@pytest.fixture
def task(client: httpx.Client) -> Iterator[str]:
    made = create(client, learner="photos", support=support())
    assert made.status_code == 201, made.text
    identifier: str = made.json()["id"]
    yield identifier
    client.delete(f"/v1/tasks/{identifier}")


def test_its_description_says_size_and_channels(client: httpx.Client) -> None:
    found = client.get("/v1/learners/photos").json()
    assert found["input"] == {"kind": "image", "size": 32, "channels": 3}
    defaults = {item["name"]: item["default"] for item in client.get("/v1/learners").json()["items"]}
    assert defaults == {"glyphs": True, "photos": False}


def test_alone_as_in_a_batch(client: httpx.Client, task: str) -> None:
    queries = [encoded(4 * c + 3) for c in range(3)]
    together = predictions(client, task, queries)
    assert [found["label"] for found in together] == ["class-0", "class-1", "class-2"]
    for query, found in zip(queries, together, strict=True):
        (alone,) = predictions(client, task, [query])
        assert alone["probabilities"] == pytest.approx(found["probabilities"], abs=1e-5)


def test_what_is_served_is_what_training_and_evaluation_embed(server: Server, task: str) -> None:
    learner = artifact.load(server.learners_dir / "photos").learner
    taken = PHOTOS.inputs.permute(0, 3, 1, 2).float() / 255
    decoded = PhotoInput().decode(ImageBytes(png(PHOTOS.inputs[7])))
    assert torch.equal(torch.from_numpy(decoded), taken[7])
    with torch.no_grad():
        features = learner.embed(taken)
        index = torch.tensor([[0, 1, 4, 5, 8, 9]])
        weights = learner.adapt(Support.of(features[index], torch.tensor([[0, 0, 1, 1, 2, 2]])))
        expected = learner.predict(weights, features[None, 7:8]).probabilities[0, 0]  # type: ignore[attr-defined]
    (found,) = predictions(server.client, task, [encoded(7)])
    served = [found["probabilities"][f"class-{c}"] for c in range(3)]
    assert served == pytest.approx(expected.tolist(), abs=1e-4)


def test_colour_matters_where_strokes_would_be_the_same(client: httpx.Client) -> None:
    shades = {name: torch.zeros(40, 60, 3, dtype=torch.uint8) for name in ("red", "green")}
    shades["red"][..., 0] = shades["green"][..., 1] = 200
    files = {name: base64.b64encode(png(pixels, "JPEG")).decode() for name, pixels in shades.items()}
    made = create(client, learner="photos", support={name: [file] for name, file in files.items()}).json()
    labels = [found["label"] for found in predictions(client, made["id"], list(files.values()))]
    assert labels == ["red", "green"]
    assert [warning["code"] for warning in made["warnings"]] == ["blank_example", "blank_example"]
    client.delete(f"/v1/tasks/{made['id']}")


def test_a_picture_as_the_body(client: httpx.Client, task: str) -> None:
    data = png(PHOTOS.inputs[6])
    answer = client.post(
        f"/v1/tasks/{task}/predict", content=data, headers={"Content-Type": "image/png"}
    ).json()
    assert answer["predictions"][0]["label"] == "class-1"


@pytest.mark.parametrize("x", [[0.5, 0.5], {"vector": [0.5]}, {"text": "a cat"}])
def test_other_kinds_are_refused(client: httpx.Client, x: object) -> None:
    response = create(client, learner="photos", support={"a": [x], "b": [encoded(0)]})
    error(response, 422, "wrong_kind", "/support/a/0")


def test_a_damaged_picture_is_refused(client: httpx.Client, task: str) -> None:
    cut = base64.b64encode(png(PHOTOS.inputs[0])[:90]).decode()
    response = client.post(f"/v1/tasks/{task}/predict", json={"queries": [cut]})
    error(response, 422, "truncated_image", "/queries/0")


def test_a_task_without_a_learner_is_one_of_strokes(client: httpx.Client) -> None:
    examples = {label: [{"image": example} for example in sents] for label, sents in support(1).items()}
    made = create(client, support=examples).json()
    assert made["learner"] == "glyphs"
    client.delete(f"/v1/tasks/{made['id']}")
