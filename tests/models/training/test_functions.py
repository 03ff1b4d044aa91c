"""A training on functions from start to artifact: resumed it is the same, by any of the methods."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from models import artifact
from models.bayes.shot_noise import SHOTS
from models.data.functions import Completion, Family, FunctionConfig, Sinusoids
from models.fewshot.maml_regression import MamlRegression
from models.inputs import VectorInput
from models.registry import RegistryError
from models.training.functions import FunctionRecipe, train
from models.training.run_folder import RecipeError
from models.training.trainer import TrainConfig

SMALL: dict[str, dict[str, Any]] = {
    "cnp-regression": {"width": 8},
    "maml-regression": {"hidden": (8,), "learned_rates": True},
    "bayes-linear": {"width": 8, "features": 4},
}


class Killed(Exception):
    """Stands for a kill at a random step."""


def recipe(method: str, **hparams: object) -> FunctionRecipe:
    return FunctionRecipe(
        method=method,
        hparams={**SMALL.get(method, {}), **hparams},
        dataset="sinusoids",
        functions=FunctionConfig(min_shot=2, max_shot=5, queries=4, tasks=6),
        train=TrainConfig(steps=6, validate_every=3, checkpoint_every=2, warm_up=1, weight_decay=0.0),
    )


def run(
    chosen: FunctionRecipe, folder: Path, killed_at: int | None = None, family: Family | None = None
) -> str:
    def report(row: dict[str, float]) -> None:
        if row["step"] == killed_at:
            raise Killed

    return train(chosen, family or Sinusoids(), folder, "test", "hyperserve train", report)


@pytest.mark.parametrize("method", SMALL)
def test_a_killed_training_ends_as_the_one_that_was_not(tmp_path: Path, method: str) -> None:
    whole = run(recipe(method), tmp_path / "whole")
    with pytest.raises(Killed):
        run(recipe(method), tmp_path / "cut", killed_at=3)
    assert run(recipe(method), tmp_path / "cut") == whole
    made = artifact.load(tmp_path / "cut" / "learner")
    assert made.config.input == VectorInput(dim=1)
    assert made.config.training["steps"] == 6
    assert set(made.config.metrics["validation"]) == {"mse_2s", "nll_2s", "mse_5s", "nll_5s"}
    assert "## Measured: validation" in made.card
    assert "digest of the training classes" not in made.card


def test_the_noise_of_a_mean_alone_is_the_error_of_validation_tasks(tmp_path: Path) -> None:
    run(recipe("maml-regression"), tmp_path / "mine")
    made = artifact.load(tmp_path / "mine" / "learner")
    assert isinstance(made.learner, MamlRegression)
    variance = made.learner.noise(torch.tensor([5.0]))
    assert float(variance) == pytest.approx(made.config.metrics["validation"]["mse_5s"], rel=0.3)
    assert made.learner.noise.log_variance.shape == (len(SHOTS), 1)


def test_pictures_are_trained_on_by_their_pixels(tmp_path: Path) -> None:
    family = Completion(torch.rand(5, 1, 6, 6, generator=torch.Generator().manual_seed(0)))
    run(recipe("cnp-regression", dim=2), tmp_path / "mine", family=family)
    assert artifact.load(tmp_path / "mine" / "learner").config.input == VectorInput(dim=2)


def test_a_method_for_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="protonet is a classifier"):
        run(recipe("protonet"), tmp_path / "mine")
    with pytest.raises(RegistryError, match="unknown method 'magic'"):
        run(recipe("magic"), tmp_path / "mine")


def test_a_folder_of_another_training_is_refused(tmp_path: Path) -> None:
    run(recipe("bayes-linear"), tmp_path / "mine")
    with pytest.raises(RecipeError, match="holds another training"):
        run(recipe("bayes-linear", features=5), tmp_path / "mine")
