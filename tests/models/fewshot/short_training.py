"""A training of a minute's worth on drawings made here: enough to tell a method that learns from one that does not."""

from __future__ import annotations

from pathlib import Path

from models import artifact
from models.artifact import Artifact
from models.data.episodes import EpisodeConfig
from models.evaluation.calibrate import CalibrationPlan
from models.training.recipe import Recipe, TrainingData, train
from models.training.trainer import TrainConfig
from tests.models.glyph_data import glyphs


def trained(folder: Path, method: str, *, training_steps: int = 20, **hparams: object) -> Artifact:
    """The learner that `hyperserve train` makes of 20 classes; its validation tasks have 5 classes of 8 others."""
    chosen = Recipe(
        method=method,
        hparams=hparams,
        encoder_hparams={"width": 8},
        dataset="drawn",
        episodes=EpisodeConfig(min_way=5, max_way=5, max_shot=2, queries=3, examples_per_step=80),
        augmentation=None,
        train=TrainConfig(steps=training_steps, validate_every=training_steps, warm_up=1, lr=1e-2, ema=0.5),
        calibration=CalibrationPlan(tasks=4, gold_tasks=2, set_tasks=20),
    )
    data = TrainingData(glyphs(20, 8), [glyphs(8, 8, seed=1)])
    train(chosen, data, folder, "test", "hyperserve train", lambda row: None)
    return artifact.load(folder / "learner")
