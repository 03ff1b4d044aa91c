"""hyperset against its mathematics: the posterior and the predictives of PLDA, and what the residual may add."""

import math

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence
from torch.testing import assert_close

from models.encoder_protocol import EncoderConfig
from models.encoders.identity import Identity
from models.fewshot.hyperset import HyperSet, HyperSetConfig
from models.hypernets.set_residual import MAX_LOG_FACTOR, MAX_SHIFT
from models.noise import Noise
from models.predictive import Categorical
from models.protocol import Support, TaskWeights

DIM = 3
# Class 0 twice, class 1 once.
SUPPORT_X = torch.tensor([[[0.0, 1.0, 2.0], [4.0, 1.0, -1.0], [2.0, 3.0, 0.0]]])
SUPPORT_Y = torch.tensor([[0, 1, 0]])
MEANS, SHOTS = torch.tensor([[1.0, 2.0, 1.0], [4.0, 1.0, -1.0]]), torch.tensor([[2.0], [1.0]])
QUERY = torch.tensor([[[1.0, 1.0, 0.0], [5.0, 0.0, -1.0]]])


def hyperset(gate: float = 0.0) -> HyperSet:
    """A learner with different variances and centres per dimension; its task net still gives 0."""
    torch.manual_seed(0)
    encoder = Identity(EncoderConfig())
    encoder.dim = DIM
    learner = HyperSet(encoder, HyperSetConfig(width=8, heads=2)).eval().requires_grad_(False)
    learner.centre.copy_(torch.tensor([0.5, -0.5, 1.0]))
    learner.log_within.copy_(torch.tensor([0.5, 0.8, 1.2]).log())
    learner.log_between.copy_(torch.tensor([1.5, 2.0, 0.7]).log())
    learner.gate.fill_(gate)
    return learner


def adapted(learner: HyperSet) -> TaskWeights:
    return learner.adapt(Support.of(SUPPORT_X, SUPPORT_Y))


def plda(learner: HyperSet) -> tuple[Normal, Normal, Normal]:
    """Posterior of each class mean, predictive of each class, predictive of a new class; by plain Bayes."""
    within, between = learner.log_within.exp(), learner.log_between.exp()
    centre = (learner.centre + MEANS.sum(0)) / 3
    precision = 1 / between + SHOTS / within
    mean = (centre / between + SHOTS * MEANS / within) / precision
    return (
        Normal(mean, precision.rsqrt()),
        Normal(mean, (1 / precision + within).sqrt()),
        Normal(centre, (between + within).sqrt()),
    )


def test_the_mean_of_a_class_is_its_posterior_mean() -> None:
    learner = hyperset()
    posterior, _, _ = plda(learner)
    weights = adapted(learner)
    assert_close(weights.rows["mean"][0], posterior.mean)
    assert_close(weights.rows["shots"][0], SHOTS[:, 0])


def test_a_query_is_scored_by_the_predictive_of_each_class() -> None:
    learner = hyperset()
    _, predictive, _ = plda(learner)
    expected = Independent(predictive, 1).log_prob(QUERY[0][:, None]).log_softmax(-1)
    answer = learner.predict(adapted(learner), QUERY)
    assert isinstance(answer, Categorical)
    assert_close(answer.log_probs[0], expected)


def test_novelty_is_the_bayes_factor_of_a_new_class() -> None:
    learner = hyperset()
    _, predictive, new = plda(learner)
    known = Independent(predictive, 1).log_prob(QUERY[0][:, None]).logsumexp(-1) - math.log(2)
    answer = learner.predict(adapted(learner), QUERY)
    assert isinstance(answer, Categorical)
    assert answer.novelty is not None
    assert_close(answer.novelty[0], Independent(new, 1).log_prob(QUERY[0]) - known)


def test_the_divergence_is_that_of_the_posterior_from_the_prior_of_class_means() -> None:
    learner = hyperset()
    posterior, _, _ = plda(learner)
    prior = Normal((learner.centre + MEANS.sum(0)) / 3, learner.log_between.exp().sqrt())
    assert_close(learner._divergence(adapted(learner))[0], kl_divergence(posterior, prior).sum())


def test_logits_are_as_uncertain_as_the_mean_they_come_from() -> None:
    """To first order: Σ_j (z_j − μ_j)² v_j / W_j²."""
    learner = hyperset()
    posterior, _, _ = plda(learner)
    slope = (QUERY[0][:, None] - posterior.mean) / learner.log_within.exp()
    _, deviation, _ = learner._logits(adapted(learner), QUERY)
    assert_close(deviation[0], (slope.square() * posterior.variance).sum(-1).sqrt())


def test_more_shots_leave_less_epistemic_uncertainty() -> None:
    learner = hyperset()
    found = []
    for shots in (1, 2, 5, 20):
        x, y = MEANS.repeat_interleave(shots, 0)[None], torch.arange(2).repeat_interleave(shots)[None]
        answer = learner.predict(learner.adapt(Support.of(x, y)), QUERY, Noise(64))
        assert isinstance(answer, Categorical)
        assert answer.epistemic is not None
        found.append(float(answer.epistemic.mean()))
    assert found == sorted(found, reverse=True)


def test_a_closed_gate_never_asks_the_residual() -> None:
    learner, plain = hyperset(), adapted(hyperset())
    for parameter in learner.residual.parameters():
        parameter.fill_(math.nan)
    found = adapted(learner)
    assert_close(found.rows, plain.rows, rtol=0, atol=0)
    assert not adapted(hyperset()).rows["log_factor"].any()


@pytest.mark.parametrize("size", [1.0, 1e4])
def test_behind_an_open_gate_the_residual_is_bounded(size: float) -> None:
    learner = hyperset(gate=1.0)
    for parameter in learner.residual.parameters():
        parameter.copy_(size * torch.randn_like(parameter))
    posterior, _, _ = plda(learner)
    found = adapted(learner).rows
    moved = (found["mean"][0] - posterior.mean) / posterior.stddev
    assert 0.01 < float(moved.abs().max()) <= MAX_SHIFT * 1.001
    assert 0.01 < float(found["log_factor"].abs().max()) <= MAX_LOG_FACTOR * 1.001
