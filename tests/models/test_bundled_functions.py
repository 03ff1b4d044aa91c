"""The learners of functions that come with hyperserve: small, made by their command, as good as their cards say."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from models import artifact
from models.data.functions import Purpose, Sinusoids
from models.evaluation.functions import answers

ZOO = Path(__file__).parents[2] / "models" / "zoo"
MAX_BYTES = 1 << 20
BUNDLED = {"sinusoid": "bayes-linear", "sinusoid-maml": "maml-regression", "sinusoid-cnp": "cnp-regression"}
STRETCH = 0.53
"""Error after 10 shots and one inner step, as Meta-SGD (1707.09835) is remembered; MAML has 0.77 there."""


def error(name: str, shot: int) -> float:
    learner = artifact.load(ZOO / name).learner
    batches = answers(learner, Sinusoids(), shot, 300, 7, Purpose.measurement)
    return float(torch.cat([batch.mse for batch in batches]).mean())


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_learners_of_functions_are_small_and_say_how_they_were_made(name: str) -> None:
    folder = ZOO / name
    assert sum(file.stat().st_size for file in folder.iterdir()) <= MAX_BYTES
    found = artifact.load(folder)
    assert found.config.method == BUNDLED[name]
    assert found.learner.traits.kind == "regression"
    assert found.config.training["command"].startswith(f"hyperserve train --name {name} --dataset sinusoids")
    assert found.config.training["command"] in found.card
    assert "## Measured: sinusoid" in found.card


def test_one_inner_step_on_ten_shots_is_enough() -> None:
    found = artifact.load(ZOO / "sinusoid-maml").config
    assert found.hparams["steps"] == 1
    assert found.hparams.get("answer_steps") is None
    assert error("sinusoid-maml", 10) < STRETCH


def test_the_default_learner_of_functions_is_the_best_of_them_and_knows_what_it_does_not_know() -> None:
    best = error("sinusoid", 10)
    assert all(best < error(name, 10) for name in BUNDLED if name != "sinusoid")
    assert artifact.load(ZOO / "sinusoid").learner.traits.exact_posterior
