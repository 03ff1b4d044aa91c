"""A learner survives the disk bitwise; a folder that is not a learner is refused by name."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.artifact import ArtifactError, LearnerConfig, load, save
from models.inputs import ImageInput
from models.protocol import MetaLearner
from models.registry import build

CONFIG = LearnerConfig(
    code_version="0.1.0",
    method="hyperset",
    hparams={"width": 8, "heads": 2},
    encoder="conv4",
    encoder_hparams={"width": 4},
    input=ImageInput(),
    training={"command": "hyperserve train", "seed": 7},
)
CARD = "# Glyphs\n\nSchöne Zeichen.\n"


@pytest.fixture
def learner() -> MetaLearner:
    torch.manual_seed(0)
    return build(CONFIG)


@pytest.fixture
def folder(tmp_path: Path, learner: MetaLearner) -> Path:
    save(tmp_path / "glyphs", learner, CONFIG, CARD)
    return tmp_path / "glyphs"


def test_comes_back_bitwise(folder: Path, learner: MetaLearner) -> None:
    artifact = load(folder)
    assert artifact.name == "glyphs"
    assert artifact.card == CARD
    assert not artifact.learner.training
    assert not any(parameter.requires_grad for parameter in artifact.learner.parameters())
    saved, loaded = learner.state_dict(), artifact.learner.state_dict()
    assert saved.keys() == loaded.keys()
    assert all(saved[name].equal(loaded[name]) for name in saved)
    x = torch.rand(3, 1, 28, 28)
    assert learner.eval().embed(x).equal(artifact.learner.embed(x))


def test_the_folder_has_three_files(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]


def test_defaults_are_written_out(folder: Path) -> None:
    assert json.loads((folder / "config.json").read_text())["hparams"]["depth"] == 2


def test_the_name_may_be_given(folder: Path) -> None:
    assert load(folder, "other").name == "other"
    assert load(folder).short_digest == load(folder).digest[:16]


def test_the_digest_is_that_of_what_changes_answers(
    folder: Path, learner: MetaLearner, tmp_path: Path
) -> None:
    digest = load(folder).digest
    told = CONFIG.model_copy(update={"metrics": {"accuracy": 99.1}, "code_version": "9", "training": {}})
    assert save(tmp_path / "same", learner, told, "another card") == digest
    assert load(tmp_path / "same").digest == digest
    larger = CONFIG.model_copy(update={"input": ImageInput(size=32)})
    assert save(tmp_path / "input", learner, larger, CARD) != digest
    with torch.no_grad():
        next(learner.parameters()).view(-1)[0] += 1e-6
    assert save(tmp_path / "weights", learner, CONFIG, CARD) != digest


def test_saving_again_replaces(folder: Path, learner: MetaLearner) -> None:
    save(folder, learner, CONFIG.model_copy(update={"metrics": {"accuracy": 99.1}}), "new")
    assert load(folder).config.metrics == {"accuracy": 99.1}
    assert load(folder).card == "new"


def test_loading_leaves_the_random_state_alone(folder: Path) -> None:
    before = torch.get_rng_state()
    load(folder)
    assert torch.get_rng_state().equal(before)


def test_only_the_described_learner_is_saved(tmp_path: Path, learner: MetaLearner) -> None:
    for changes, culprit in (
        ({"method": "protonet", "hparams": {}}, "HyperSet"),
        ({"method": "astrology"}, "astrology"),
        ({"hparams": {"width": 16, "heads": 2}}, "shape"),
    ):
        with pytest.raises(ArtifactError, match=culprit):
            save(tmp_path / "no", learner, CONFIG.model_copy(update=changes), CARD)
    with torch.no_grad():
        next(learner.parameters()).fill_(torch.nan)
    with pytest.raises(ArtifactError, match="not finite"):
        save(tmp_path / "no", learner, CONFIG, CARD)
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize(
    ("change", "culprit"),
    [
        ({"format": 2}, "format 2 is unknown"),
        ({"format": None}, "format None is unknown"),
        ({"method": "astrology"}, "unknown method 'astrology'"),
        ({"encoder": "eye"}, "unknown encoder 'eye'"),
        ({"hparams": {"width": "wide"}}, "'width'"),
        ({"surprise": 1}, "'surprise'"),
        ({"input": {"kind": "sound"}}, "'input'"),
        ({"method": ["hyperset"]}, "'method'"),
    ],
)
def test_a_changed_description_is_refused(folder: Path, change: dict[str, object], culprit: str) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ArtifactError, match=culprit):
        load(folder)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "1", "\ud800".encode("utf-8", "surrogatepass").decode("latin-1")]
)
def test_a_broken_description_is_refused(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"config\.json"):
        load(folder)


NAME = "metric.weight"


@pytest.mark.parametrize(
    ("change", "culprit"),
    [
        (lambda t: t.pop(NAME), f"missing tensor '{NAME}'"),
        (lambda t: t.update(extra=torch.zeros(1)), "surplus tensor 'extra'"),
        (lambda t: t.update({NAME: t[NAME][:-1]}), f"'{NAME}' has shape"),
        (lambda t: t.update({NAME: t[NAME].double()}), f"'{NAME}' is torch.float64"),
        (lambda t: t[NAME].view(-1)[3].fill_(torch.nan), f"'{NAME}' holds values"),
        (lambda t: t[NAME].view(-1)[3].fill_(torch.inf), f"'{NAME}' holds values"),
    ],
)
def test_changed_weights_are_refused(
    folder: Path, change: Callable[[dict[str, Tensor]], None], culprit: str
) -> None:
    tensors = {name: value.clone() for name, value in load_file(folder / "model.safetensors").items()}
    change(tensors)
    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / "model.safetensors")
    with pytest.raises(ArtifactError, match=culprit):
        load(folder)


@pytest.mark.parametrize("keep", [0, 7, 100, -1])
def test_truncated_weights_are_refused(folder: Path, keep: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ArtifactError, match=r"model\.safetensors"):
        load(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "README.md"])
def test_missing_files_are_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ArtifactError, match=name):
        load(folder)
