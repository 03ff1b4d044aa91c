"""The commands as a user runs them, on a folder of pictures made here."""

import json
from pathlib import Path

import pytest
from PIL import Image

from models import artifact
from tests.app.cli.commands import run
from tests.models.glyph_data import glyphs

FLAGS = [
    *("--method", "protonet", "--steps", "4", "--validate-every", "2", "--precision", "fp32"),
    *("--max-way", "5", "--max-shot", "2", "--queries", "2", "--examples-per-step", "30"),
    *("--calibration-tasks", "4", "--encoder-hparam", "width=8"),
]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("drawn")
    data = glyphs(classes=30, examples=18)
    for index, (picture, label) in enumerate(zip(data.inputs, data.labels, strict=True)):
        folder = root / data.class_names[int(label)]
        folder.mkdir(exist_ok=True)
        Image.fromarray(255 - picture.numpy()).save(folder / f"{index}.png")
    return root


def test_train_makes_a_calibrated_learner_with_its_card_and_resumes(pictures: Path, tmp_path: Path) -> None:
    words = ("train", "--name", "mine", "--dataset", str(pictures), "--runs", str(tmp_path), *FLAGS)
    code, said = run(*words)
    assert code == 0, said
    made = artifact.load(tmp_path / "mine" / "learner")
    assert made.config.training["steps"] == 4
    assert bool(made.learner.calibration.has_sets)
    assert "hyperserve train --name mine" in made.card or "## Training" in made.card
    code, _ = run(*words)
    assert code == 0
    assert artifact.load(tmp_path / "mine" / "learner").digest == made.digest, "a finished run stays as it is"
    code, said = run(*words, "--seed", "1")
    assert code == 2
    assert "another training" in " ".join(said.split())
    start = ("--init", str(tmp_path / "mine" / "learner"), "--mirrored", "--augmentation", "0.5")
    code, said = run("train", "--name", "second", *words[3:], *start)
    assert code == 0, said
    second = artifact.load(tmp_path / "second" / "learner")
    assert json.loads((tmp_path / "second" / "recipe.json").read_text())["warm_start"] == made.digest
    assert second.config.training["dataset"].endswith(", mirrored")


def test_a_fixed_way_needs_no_flags(pictures: Path, tmp_path: Path) -> None:
    flags = [word for word in FLAGS if word not in ("--max-way", "5")]
    flags[flags.index("protonet")] = "hypershot"
    code, said = run("train", "--name", "mine", "--dataset", str(pictures), "--runs", str(tmp_path), *flags)
    assert code == 0, said
    described = json.loads((tmp_path / "mine" / "recipe.json").read_text())["episodes"]
    assert (described["min_way"], described["max_way"]) == (5, 5)
    metrics = artifact.load(tmp_path / "mine" / "learner").config.metrics["validation"]
    assert "accuracy_5w1s" in metrics
    assert "accuracy_20w1s" not in metrics


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--dataset", "nowhere"), "neither a folder"),
        (("--method", "magic"), "unknown method 'magic'"),
        (("--min-shot", "0"), "min_shot"),
        (("--method", "hypershot", "--max-way", "60"), "hypershot as described takes 5 classes"),
        (("--method", "hypershot", "--hparam", "ways=3", "--min-way", "5"), "takes 3 classes"),
        (("--method", "hypershot", "--hparam", "orders=9"), "5 classes have 5 turns"),
        (("--device", "cuda:99"), "the device 'cuda:99' cannot be used"),
    ],
)
def test_what_cannot_be_trained_says_why(
    pictures: Path, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    code, said = run("train", "--name", "mine", "--dataset", str(pictures), "--runs", str(tmp_path), *words)
    assert code == 2
    assert message in " ".join(said.split())


def test_evaluate_vectors_prints_protocol_and_intervals(tmp_path: Path) -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(8), 20)
    np.savez(
        tmp_path / "v.npz",
        x=rng.standard_normal((8, 16))[labels] + 0.1 * rng.standard_normal((160, 16)),
        label=labels,
    )
    words = (
        "evaluate",
        "vectors",
        "--learner",
        "vectors",
        "--data",
        str(tmp_path / "v.npz"),
        "--tasks",
        "10",
    )
    code, said = run(*words, "--json", "--out", str(tmp_path / "result"))
    assert code == 0, said
    found = json.loads((tmp_path / "result.json").read_text())
    assert found["cells"][0]["accuracy"]["mean"] > 0.95
    assert found["learners"][0].startswith("vectors ")
