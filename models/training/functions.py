"""A training on functions from start to artifact: build, train, fit the noise, measure on validation tasks, save."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field

from models import artifact
from models.bayes.shot_noise import SHOTS
from models.data.functions import Family, FunctionConfig, FunctionSampler, Purpose
from models.evaluation.functions import answers
from models.fewshot.common.regression import Regressor
from models.inputs import VectorInput
from models.protocol import MetaLearner
from models.registry import METHODS, LearnerConfig, build
from models.training.card import write_card
from models.training.gradient import GradientTrainer
from models.training.run_folder import RecipeError, claim
from models.training.trainer import Report, TrainConfig

_VALIDATION_TASKS = 200
_NOISE_TASKS = 500
_SCORES_SEED, _NOISE_SEED = 0, 1
_INFLATION_TASKS = 200
_FARTHEST = 4.0
"""Larger errors count as errors of so many standard deviations, so that no few outliers decide."""
_EXACT = 0.1
"""Tasks of smaller mean squared errors, in variances of the answers, have no noise to be right about."""


class FunctionRecipe(BaseModel):
    """Settings of a training; with the family of functions they decide what it makes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    hparams: dict[str, object] = Field(default_factory=dict)
    dataset: str
    functions: FunctionConfig = FunctionConfig()
    chosen_by: Literal["nll", "mse"] = "nll"
    """Measure of the best checkpoint, on validation tasks."""
    train: TrainConfig = TrainConfig(weight_decay=0.0)


def train(
    recipe: FunctionRecipe,
    family: Family,
    folder: Path,
    code_version: str,
    command: str,
    report: Report,
) -> str:
    """Train into `folder`, resuming a training there, save the learner in `folder/learner`, return its digest.

    Raises `RecipeError` if the folder holds another training or the method is for classes, `LearnerError` for names
    and hyperparameters that the registry does not know.
    """
    if recipe.method in METHODS and not issubclass(METHODS[recipe.method], Regressor):
        raise RecipeError(f"{recipe.method} is a classifier; {recipe.dataset} needs a method for regression")
    claim(folder, recipe)
    torch.manual_seed(recipe.train.seed)
    config = LearnerConfig(
        code_version=code_version,
        method=recipe.method,
        hparams=recipe.hparams,
        encoder="identity",
        encoder_hparams={"dim": family.dim},
        input=VectorInput(dim=family.dim),
    )
    learner = build(config)
    assert isinstance(learner, Regressor)
    if not learner.takes(family.dim, family.target):
        dim = "any" if family.dim is None else family.dim
        raise RecipeError(
            f"functions of {recipe.dataset} map {dim} to {family.target} numbers; set dim and target"
        )
    sampler = FunctionSampler(family, recipe.functions, recipe.train.seed)
    family = family.in_plain_units()
    trainer = GradientTrainer(learner, sampler, None, recipe.train, folder)

    def validate(candidate: MetaLearner) -> dict[str, float]:
        found = scores(candidate, family, recipe.functions)
        chosen = [value for name, value in found.items() if name.startswith(recipe.chosen_by)]
        return {**found, "score": -sum(chosen) / len(chosen)}

    best = trainer.run(validate, report).to("cpu").eval().requires_grad_(False)
    assert isinstance(best, Regressor)
    fit_noise(best, family)
    fit_inflation(best, family, recipe.functions.max_shot)
    made: dict[str, object] = {
        "command": command,
        "dataset": recipe.dataset,
        "seed": recipe.train.seed,
        "steps": recipe.train.steps,
        "best_step": trainer.progress.best_step,
        "train_seconds": round(trainer.progress.seconds),
        "device": recipe.train.device,
    }
    measured = {"validation": scores(best, family, recipe.functions)}
    config = config.model_copy(update={"training": made, "metrics": measured})
    return artifact.save(folder / "learner", best, config, write_card(folder.name, config))


def scores(learner: MetaLearner, family: Family, trained: FunctionConfig) -> dict[str, float]:
    """Return error and −log likelihood on fixed validation tasks of the fewest and the most shots of training.

    If shots are drawn by their logarithm, those in the middle are measured, too.
    """
    found: dict[str, float] = {}
    shots = {trained.min_shot, trained.max_shot}
    if trained.logarithmic:
        shots.add(math.isqrt(trained.min_shot * trained.max_shot))
    for shot in sorted(shots):
        batches = list(answers(learner, family, shot, _VALIDATION_TASKS, _SCORES_SEED, Purpose.validation))
        found[f"mse_{shot}s"] = float(torch.cat([batch.mse for batch in batches]).mean())
        found[f"nll_{shot}s"] = float(torch.cat([batch.nll for batch in batches]).mean())
    return found


def fit_inflation(learner: Regressor, family: Family, most: int) -> None:
    """Fit the factor on the variance of a learner that has one, to errors on validation tasks of up to `most` shots."""
    if learner.inflation is None:
        return
    fitted = {}
    for shot in (shot for shot in SHOTS if shot <= most):
        batches = answers(learner, family, shot, _INFLATION_TASKS, _NOISE_SEED, Purpose.validation)
        squares = torch.cat([batch.squared_deviations.clamp(max=_FARTHEST**2) for batch in batches])
        by_task = squares.mean((1, 2))
        fitted[shot] = by_task[by_task > _EXACT].mean()[None]
    learner.inflation.fit(fitted)


def fit_noise(learner: Regressor, family: Family) -> None:
    """Fit the noise of a learner that answers with a mean alone to its errors on validation tasks."""
    if learner.noise is None:
        return
    most = family.most_points
    learner.noise.fit(
        {
            shot: torch.cat(
                [
                    (batch.answer.mean - batch.target).square().mean(1)
                    for batch in answers(learner, family, shot, _NOISE_TASKS, _NOISE_SEED, Purpose.validation)
                ]
            ).mean(0)
            for shot in SHOTS
            if most is None or shot < most
        }
    )
