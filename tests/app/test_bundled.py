"""The learners that come with hyperserve, served: golden answers, and evaluation = serving on the same bytes."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from app.core.settings import REPOSITORY
from app.db.blobs import digest
from app.tasks.prepare import seed_of
from models import artifact
from models.bayes.calibration import Calibration
from models.data.dataset import ClassDataset, model_input
from models.noise import Noise, label_key
from models.predictive import Categorical
from models.protocol import Support
from tests.app.server import Server

ZOO = REPOSITORY / "models" / "zoo"
GLYPHS = REPOSITORY / "examples" / "glyphs"
GOLDEN = Path(__file__).with_name("golden.json")
WRITE = "HYPERSERVE_WRITE_GOLDEN"
"""Set it to freeze the answers anew, after a bundled learner was replaced on purpose."""
MAX_BYTES = 4 << 20
CLASSES = ("fish", "ladder", "snail")
FIVE = ("balance", *CLASSES, "trident")
"""As many as `hypershot` takes."""
VECTORS = {
    "support": {"low": [[0.1, 0.2, 0.1], [0.2, 0.1, 0.0]], "high": [[0.9, 0.8, 1.0], [0.8, 0.9, 0.9]]},
    "queries": [[0.7, 0.8, 0.9], [0.1, 0.1, 0.2], [-3.0, 4.0, 0.5]],
}


@pytest.fixture(scope="module")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    server = Server(tmp_path_factory.mktemp("bundled") / "data", ZOO, fresh=True)
    server.start()
    yield server.client
    server.stop()


def support_files(label: str) -> list[Path]:
    return sorted((GLYPHS / "support" / label).glob("*.png"))


def ask_glyphs(
    client: httpx.Client, classes: Sequence[str] = CLASSES, options: dict[str, str] | None = None
) -> list[dict[str, Any]]:
    """The shipped drawings through multipart; the umbrella is of no class."""
    parts = [(label, file.read_bytes()) for label in classes for file in support_files(label)]
    task = client.post("/v1/tasks", files=parts, params=options).raise_for_status().json()["id"]
    queries = [("query", file.read_bytes()) for file in sorted((GLYPHS / "query").glob("*.png"))]
    answer = client.post(f"/v1/tasks/{task}/predict", files=queries).raise_for_status().json()
    client.delete(f"/v1/tasks/{task}").raise_for_status()
    found: list[dict[str, Any]] = answer["predictions"]
    return found


def numbers(predictions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    names = ("probabilities", "unknown", "entropy", "epistemic", "prediction_set")
    return [{name: prediction[name] for name in names} for prediction in predictions]


def test_golden_answers(bundled: httpx.Client) -> None:
    """Frozen artifact and request give the frozen numbers to 1e-4."""
    answer = bundled.post("/v1/predict", json=VECTORS).raise_for_status().json()
    found = {
        "digests": {entry["name"]: entry["digest"] for entry in bundled.get("/v1/learners").json()["items"]},
        "glyphs": numbers(ask_glyphs(bundled)),
        "vectors": numbers(answer["predictions"]),
        "hypershot": numbers(ask_glyphs(bundled, FIVE, {"learner": "hypershot"})),
    }
    if os.environ.get(WRITE):
        GOLDEN.write_text(json.dumps(found, indent=1) + "\n")
    golden = json.loads(GOLDEN.read_text())
    assert found["digests"] == golden["digests"], f"a bundled learner changed; {WRITE}=1 freezes it anew"
    for name in ("glyphs", "vectors", "hypershot"):
        for now, then in zip(found[name], golden[name], strict=True):
            assert now["prediction_set"] == then["prediction_set"]
            assert now["probabilities"] == pytest.approx(then["probabilities"], abs=1e-4)
            for field in ("unknown", "entropy", "epistemic"):
                assert now[field] == pytest.approx(then[field], abs=1e-4), field


def test_the_drawings_are_recognised_and_the_umbrella_is_not(bundled: httpx.Client) -> None:
    names = [file.stem.rsplit("-", 1)[0] for file in sorted((GLYPHS / "query").glob("*.png"))]
    answers = dict(zip(names, ask_glyphs(bundled), strict=True))
    for name in CLASSES:
        assert answers[name]["label"] == name
        assert answers[name]["unknown"] < 0.5
        assert answers[name]["epistemic"] is not None
    assert answers["umbrella"]["unknown"] > 0.5


def test_hypershot_knows_the_drawings_however_they_are_listed(bundled: httpx.Client) -> None:
    names = [file.stem.rsplit("-", 1)[0] for file in sorted((GLYPHS / "query").glob("*.png"))]
    found = ask_glyphs(bundled, FIVE, {"learner": "hypershot"})
    turned = ask_glyphs(bundled, FIVE[::-1], {"learner": "hypershot"})
    for name, answer, other in zip(names, found, turned, strict=True):
        assert answer["epistemic"] is None
        assert other["probabilities"] == pytest.approx(answer["probabilities"], abs=1e-5)
        assert answer["label"] == name or name == "umbrella"


def test_evaluation_is_serving_on_the_same_bytes(bundled: httpx.Client) -> None:
    """The path of `hyperserve evaluate` (arrays, `model_input`, one batch) against the wire (PNG, HTTP, engine)."""
    files = {label: support_files(label) for label in CLASSES}
    queries = sorted((GLYPHS / "query").glob("*.png"))
    served = ask_glyphs(bundled)
    found = artifact.load(ZOO / "glyphs")
    learner = found.learner
    every = [file for label in CLASSES for file in files[label]]
    labels = [label for label in CLASSES for _ in files[label]]
    pictures = np.stack([np.asarray(Image.open(file).convert("L")) for file in (*every, *queries)])
    data = ClassDataset(
        "drawings",
        torch.from_numpy(pictures),
        torch.zeros(len(pictures), dtype=torch.long),
        ("any",),
        torch.zeros(1, dtype=torch.long),
    )
    features = learner.embed(model_input(data, found.config.input))
    support = Support.of(
        features[None, : len(every)],
        torch.tensor([[CLASSES.index(label) for label in labels]]),
        class_key=torch.tensor([[label_key(label) for label in CLASSES]]),
        seed=torch.tensor([seed_of(labels, [digest(file.read_bytes()) for file in every])]),
    )
    answer = learner.predict(learner.adapt(support), features[None, len(every) :], Noise(32))
    assert isinstance(answer, Categorical)
    for probabilities, prediction in zip(answer.probabilities[0].tolist(), served, strict=True):
        assert list(prediction["probabilities"].values()) == pytest.approx(probabilities, abs=1e-5)


@pytest.mark.parametrize("name", ["glyphs", "hypershot", "vectors"])
def test_bundled_learners_are_small_calibrated_and_say_how_they_were_made(name: str) -> None:
    folder = ZOO / name
    assert sum(file.stat().st_size for file in folder.iterdir()) <= MAX_BYTES
    found = artifact.load(folder)
    assert f"--name {name}" in found.config.training["command"]
    assert found.config.training["command"] in found.card
    assert "## Measured" in found.card
    calibration = found.learner.calibration
    assert isinstance(calibration, Calibration)
    # Sets of `hyperkernel` are of plain probability mass: its answers are calibrated by the task itself.
    assert bool(calibration.has_sets) is (found.config.method != "hyperkernel")
    assert bool(calibration.has_unknown)


def test_a_drawing_survives_colour_size_and_format(bundled: httpx.Client) -> None:
    """The same glyph, negative, larger, in colour and as JPEG, keeps its label."""
    picture = Image.open(GLYPHS / "query" / "fish-1.png").convert("L")
    negative = Image.eval(picture, lambda value: 255 - value)
    red = Image.merge("RGB", (Image.new("L", picture.size, 220), picture, picture))
    parts = [(label, file.read_bytes()) for label in CLASSES for file in support_files(label)]
    task = bundled.post("/v1/tasks", files=parts).raise_for_status().json()["id"]
    for image, format in ((negative, "PNG"), (picture.resize((400, 400)), "WEBP"), (red, "JPEG")):
        data = io.BytesIO()
        image.save(data, format)
        answer = bundled.post(
            f"/v1/tasks/{task}/predict",
            content=data.getvalue(),
            headers={"Content-Type": f"image/{format.lower()}"},
        ).raise_for_status()
        assert answer.json()["predictions"][0]["label"] == "fish", format
