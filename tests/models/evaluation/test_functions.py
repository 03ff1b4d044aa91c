"""Measures of learners of functions, on known answers."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Normal
from torch.testing import assert_close

from models.data.functions import Completion
from models.encoders.identity import Identity, IdentityConfig
from models.evaluation.functions import Answered, completion, merge_learners, sinusoid
from models.fewshot.bayes_linear import BayesLinear, BayesLinearConfig
from models.fewshot.cnp_regression import CnpRegression, CnpRegressionConfig
from models.fewshot.maml_regression import MamlRegression, MamlRegressionConfig
from models.fewshot.protonet import ProtoNet, ProtoNetConfig
from models.predictive import Gaussian
from models.protocol import LearnerError

ENCODER = Identity(IdentityConfig())


def test_error_likelihood_and_coverage_are_per_task() -> None:
    rng = torch.Generator().manual_seed(0)
    target = torch.randn(2, 4000, 1, generator=rng)
    mean, aleatoric = torch.zeros(2, 4000, 1), torch.full((2, 4000, 1), 0.75)
    found = Answered(Gaussian(mean, aleatoric, 0.25 * torch.ones(2, 4000, 1)), target)
    assert_close(found.mse, target.square().mean((1, 2)))
    assert_close(found.nll, -Normal(0.0, 1.0).log_prob(target).mean((1, 2)))
    assert_close(found.covered, torch.full((2,), 0.9), atol=0.02, rtol=0)
    assert_close(found.epistemic, torch.full((2,), 0.25))
    assert Answered(Gaussian(mean, aleatoric), target).epistemic is None


def test_sinusoids_by_shots_by_place_and_by_inner_steps() -> None:
    maml = MamlRegression(ENCODER, MamlRegressionConfig(hidden=(4,))).eval()
    bayes = BayesLinear(ENCODER, BayesLinearConfig(width=8, features=4)).eval()
    one, other = sinusoid(maml, 20, 0), sinusoid(bayes, 20, 0)
    assert [row["shot"] for row in one["by_shots"]] == [1, 2, 5, 10, 20]
    assert [(row["shot"], row["inner_steps"]) for row in one["by_inner_steps"]][:3] == [
        (5, 0),
        (5, 1),
        (5, 2),
    ]
    served = {row["shot"]: row["mse"] for row in one["by_shots"]}
    after_one = {row["shot"]: row["mse"] for row in one["by_inner_steps"] if row["inner_steps"] == 1}
    assert after_one[10] == served[10]
    assert {row["mean_epistemic"] for row in one["by_shots"]} == {None}
    falling = [row["mean_epistemic"] for row in other["by_shots"]]
    assert falling == sorted(falling, reverse=True)
    assert "by_inner_steps" not in other
    assert len(other["support_in_the_left_half_10_shots"]) == 3
    merged = merge_learners({"maml": one, "bayes": other})
    assert [row["learner"] for row in merged["by_shots"]] == ["maml"] * 5 + ["bayes"] * 5
    assert {row["learner"] for row in merged["by_inner_steps"]} == {"maml"}
    assert merge_learners({"maml": one}) == one


def test_completion_of_whole_pictures() -> None:
    pictures = Completion(torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0)))
    cnp = CnpRegression(ENCODER, CnpRegressionConfig(dim=2, width=8)).eval()
    found = completion(cnp, pictures, 4, 0)
    assert [row["context"] for row in found["by_context"]] == [10, 100, 784]
    assert found["variance_of_a_picture"]["mean"] == pytest.approx(1 / 12, rel=0.1)


def test_learners_of_classes_and_of_other_functions_are_refused() -> None:
    for learner in (
        ProtoNet(ENCODER, ProtoNetConfig()),
        CnpRegression(ENCODER, CnpRegressionConfig(dim=2, width=8)),
    ):
        with pytest.raises(LearnerError, match="from 1 to 1 numbers"):
            sinusoid(learner.eval(), 2, 0)
