"""Pre-training: batches of all classes, resumable, and an encoder better than it was; recipes without it stay."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from models import artifact
from models.data.dataset import DatasetError
from models.data.episodes import EpisodeConfig
from models.data.photo_augmentation import PhotoAugmentation
from models.encoders.conv4_rgb import Conv4Rgb, Conv4RgbConfig
from models.evaluation.calibrate import CalibrationPlan
from models.protocol import MetaLearner
from models.training.pretraining import BatchSampler, ClassifierOfAll, PretrainingConfig, pretrain
from models.training.recipe import Recipe, TrainingData, train
from models.training.trainer import TrainConfig
from tests.models.glyph_data import glyphs
from tests.models.photo_data import photos

DATA = photos()
AUGMENT = PhotoAugmentation()
BASE = TrainConfig(steps=5, validate_every=6, checkpoint_every=2, warm_up=2)
CONFIG = PretrainingConfig(steps=12, batch=16, lr=0.05)


class Killed(Exception):
    """Stands for a kill."""


def encoder() -> Conv4Rgb:
    torch.manual_seed(0)
    return Conv4Rgb(Conv4RgbConfig(widths=(8, 8, 8, 8)))


def unjudged(learner: MetaLearner) -> dict[str, float]:
    return {"score": 0.0}


def test_an_epoch_holds_every_example_once() -> None:
    sampler = BatchSampler(DATA, 20, seed=3)
    epoch = torch.cat([sampler._drawn(step) for step in range(8)])
    assert epoch.sort().values.tolist() == list(range(160))
    assert not sampler._drawn(8).equal(epoch[:20])
    assert BatchSampler(DATA, 20, seed=3)._drawn(8).equal(sampler._drawn(8))


def test_a_batch_is_the_same_for_the_same_step() -> None:
    one, other = (BatchSampler(DATA, 20, seed=3).episodes(5, AUGMENT) for _ in range(2))
    assert one.query_x.equal(other.query_x)
    assert one.query_x.shape == (1, 20, 3, 32, 32)
    assert one.support_x.shape[1] == 0
    assert int(one.n_way) == 8


def test_a_classifier_of_centres_is_the_gaussian_one() -> None:
    learner = ClassifierOfAll(encoder(), 8).eval()
    torch.nn.init.normal_(learner.centres)
    batch = BatchSampler(DATA, 20, seed=0).episodes(0, None)
    features = learner.embed(batch.query_x[0])
    logits = -0.5 * (features[:, None] - learner.centres).square().sum(-1)
    expected = torch.nn.functional.cross_entropy(logits, batch.query_y[0])
    torch.testing.assert_close(learner.loss(batch, 0).total[0], expected, atol=1e-4, rtol=1e-4)


def test_it_tells_classes_apart_and_a_killed_one_resumes_exactly(tmp_path: Path) -> None:
    def run(folder: Path, report: object) -> dict[str, torch.Tensor]:
        return pretrain(encoder(), DATA, CONFIG, AUGMENT, BASE, folder, unjudged, report)  # type: ignore[arg-type]

    def kill(row: dict[str, float]) -> None:
        if row["step"] == 9:
            raise Killed

    losses: list[float] = []
    whole = run(tmp_path / "whole", lambda row: losses.append(row["loss"]))
    assert losses[-1] < 0.9 * losses[0]
    with pytest.raises(Killed):
        run(tmp_path / "cut", kill)
    again = run(tmp_path / "cut", lambda row: None)
    assert all(value.equal(again[name]) for name, value in whole.items())


def recipe(pretraining: PretrainingConfig | None) -> Recipe:
    return Recipe(
        method="protonet",
        encoder="conv4-rgb",
        encoder_hparams={"widths": [4, 4, 4, 4]},
        dataset="coloured",
        episodes=EpisodeConfig(min_way=3, max_way=4, queries=2, examples_per_step=30),
        augmentation=AUGMENT,
        train=TrainConfig(steps=3, validate_every=3, warm_up=1),
        calibration=CalibrationPlan(tasks=4, gold_tasks=2, set_tasks=20),
        pretraining=pretraining,
    )


def test_a_training_begins_with_it_and_says_so(tmp_path: Path) -> None:
    steps: list[float] = []
    data = TrainingData(DATA, [photos(6, seed=1)])
    chosen = recipe(PretrainingConfig(steps=2, batch=8))
    train(chosen, data, tmp_path, "test", "none", lambda row: steps.append(row["step"]), name="coloured")
    assert steps == [1, 2, 3, 4, 5]
    made = artifact.load(tmp_path / "learner")
    assert made.config.training["pretraining_steps"] == 2
    assert made.config.input.model_dump() == {"kind": "image", "size": 32, "channels": 3}
    assert made.config.metrics["validation"]["accuracy_5w1s"] > 0.2


def test_a_recipe_without_it_is_written_as_before() -> None:
    described = json.loads(recipe(None).model_dump_json())
    assert "pretraining" not in described
    assert list(described)[-1] == "calibration"
    assert Recipe.model_validate(described) == recipe(None)
    asked = recipe(CONFIG)
    assert Recipe.model_validate_json(asked.model_dump_json()) == asked


def test_changes_of_glyphs_are_not_made_to_photos() -> None:
    with pytest.raises(DatasetError, match="photos takes pictures in colour alone"):
        BatchSampler(glyphs(4, 5), 4, seed=0).episodes(0, AUGMENT)
