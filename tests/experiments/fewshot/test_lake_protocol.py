"""Lake's runs: read as they are given, by whom they may be answered, and the error counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.errors import ExperimentError
from experiments.fewshot import lake_protocol as lake
from models.data import omniglot
from models.data.dataset import DatasetError
from models.encoders.conv4 import Conv4, Conv4Config
from models.fewshot.hypershot import HyperShot, HyperShotConfig
from models.fewshot.protonet import ProtoNet, ProtoNetConfig
from models.inputs import ImageInput

BACKGROUND = next(iter(lake.TRAINING_CLASSES))
WAY, RUNS = 4, 2


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Two drawings of each of four characters: the same picture twice."""
    masks = np.zeros((2 * WAY, 105, 105), dtype=bool)
    for character in range(WAY):
        masks[[character, WAY + character], 10 + 20 * character : 20 + 20 * character, 20:80] = True
    answers = np.array([[2, 0, 3, 1], [3, 2, 1, 0]])
    np.savez(
        tmp_path / "omniglot.npz",
        bits=np.packbits(masks.reshape(2 * WAY, -1), axis=1),
        label=np.tile(np.arange(WAY), 2),
        class_name=[f"Tibetan/character{c:02d}" for c in range(1, WAY + 1)],
        lake_support_index=np.tile(np.arange(WAY), (RUNS, 1)),
        lake_query_index=WAY + answers,
        lake_query_answer=answers.astype(np.int8),
    )
    return tmp_path / "omniglot.npz"


def protonet() -> ProtoNet:
    torch.manual_seed(0)
    return ProtoNet(Conv4(Conv4Config(width=8)), ProtoNetConfig()).eval()


def test_every_query_is_answered_among_the_characters_of_its_run(file: Path) -> None:
    runs = omniglot.lake_runs(file)
    found = lake.evaluate(protonet(), ImageInput(), BACKGROUND, runs)
    assert found["error"]["mean"] == 0, "the same picture is nearest to itself"
    assert found["error"]["n"] == len(found["runs"]) == RUNS
    turned = omniglot.LakeRuns(runs.source, runs.support, runs.query, runs.answers.roll(1, -1))
    assert lake.evaluate(protonet(), ImageInput(), BACKGROUND, turned)["error"]["mean"] == 1


@pytest.mark.parametrize("digest", [None, "0" * 64])
def test_only_a_learner_of_the_background_characters_is_measured(file: Path, digest: str | None) -> None:
    with pytest.raises(ExperimentError, match="964 background characters"):
        lake.evaluate(protonet(), ImageInput(), digest, omniglot.lake_runs(file))


def test_a_learner_of_another_way_is_refused(file: Path) -> None:
    learner = HyperShot(Conv4(Conv4Config(width=4)), HyperShotConfig(ways=3, hidden=4)).eval()
    with pytest.raises(ExperimentError, match="the runs have 4 classes; the learner supports 3"):
        lake.evaluate(learner, ImageInput(), BACKGROUND, omniglot.lake_runs(file))


def test_runs_are_in_an_npz_alone(tmp_path: Path) -> None:
    for path in (None, tmp_path):
        with pytest.raises(DatasetError, match="read from an npz"):
            omniglot.lake_runs(path)
    np.savez(tmp_path / "bare.npz", label=[0])
    with pytest.raises(DatasetError, match="lake_query_answer"):
        omniglot.lake_runs(tmp_path / "bare.npz")


def test_validation_alphabets_of_a_training_for_the_runs_are_in_none_of_them() -> None:
    names = ("Tibetan/character01", "Angelic/character01", "Latin/character01")
    assert [omniglot._belongs(name, "lake-validation") for name in names] == [False, True, False]
    assert [omniglot._belongs(name, "background") for name in names] == [False, False, True]
