"""Logistic regression: the optimum, not a way towards it; and its derivative by other means."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from models.encoder_protocol import EncoderConfig
from models.encoders.identity import Identity
from models.fewshot.logistic import Logistic, LogisticConfig, LogisticProblem, differentiable, optimum
from models.protocol import LearnerError, Support
from tests.models.fewshot.short_training import trained

TARGETS = torch.tensor([[0, 1, 2, 0, 2, 0]])


def learner_of(**changes: object) -> Logistic:
    config = LogisticConfig.model_validate(changes)
    return Logistic(Identity(EncoderConfig()), config).eval().requires_grad_(False)


def drawn(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def problem_of(x: Tensor, penalty: float = 0.3) -> LogisticProblem:
    y = F.one_hot(TARGETS, 3).double()
    return LogisticProblem(x.double(), y, torch.ones(1, 3, dtype=torch.bool), torch.tensor(penalty).double())


def test_the_answer_is_that_of_the_optimum_by_another_road() -> None:
    x, query = 5 + 3 * drawn(1, 6, 4), 5 + 3 * drawn(1, 2, 4, seed=2)
    centre = x[0].mean(0)
    unit = (x[0] - centre).square().sum(1).mean().sqrt()

    def inputs(raw: Tensor) -> Tensor:
        return torch.cat(((raw - centre) / unit, torch.ones(len(raw), 1)), 1).double()

    v = torch.zeros(3, 5, dtype=torch.double, requires_grad=True)
    optimiser = torch.optim.LBFGS([v], max_iter=300, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = F.cross_entropy(inputs(x[0]) @ v.T, TARGETS[0], reduction="sum") + 0.35 * v.square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    learner = learner_of(penalty=0.7, scale=2.0)
    answer = learner.predict(learner.adapt(Support.of(x, TARGETS)), query)
    expected = (2.0 * inputs(query[0]) @ v.detach().T).log_softmax(-1).float()
    assert_close(answer.log_probs[0], expected, atol=1e-5, rtol=1e-4)
    assert answer.epistemic is None
    assert answer.unknown is None


@pytest.mark.parametrize("penalty", [1e-6, 1e-2, 1.0, 100.0])
def test_the_gradient_at_the_optimum_is_zero_whatever_the_penalty(penalty: float) -> None:
    problem = problem_of(drawn(1, 6, 8), penalty)
    at_start = problem.gradient(torch.zeros(1, 3, 8).double()).norm()
    assert problem.gradient(optimum(problem)).norm() < 1e-8 * at_start


def test_neighbours_of_a_harder_task_are_solved_as_alone() -> None:
    easy, hard = drawn(1, 6, 4), 100 * drawn(1, 6, 4, seed=5)
    one = problem_of(easy, 1e-3)
    both = replace(
        one, x=torch.cat((easy, hard)).double(), y=one.y.repeat(2, 1, 1), present=one.present.repeat(2, 1)
    )
    assert_close(optimum(both)[:1], optimum(one), atol=1e-8, rtol=1e-8)


def test_the_derivative_of_the_optimum_is_that_of_finite_differences() -> None:
    problem = problem_of(drawn(1, 6, 4))

    def solved(x: Tensor, penalty: Tensor) -> Tensor:
        asked = replace(problem, x=x, penalty=penalty)
        return differentiable(asked, optimum(asked))

    inputs = (problem.x.requires_grad_(), problem.penalty.requires_grad_())
    assert torch.autograd.gradcheck(solved, inputs, eps=1e-5, atol=1e-6)


@pytest.mark.parametrize(("size", "offset"), [(1e-3, 0.0), (1e3, 0.0), (1.0, 1e4)])
def test_vectors_of_any_size_and_place_are_answered_alike(size: float, offset: float) -> None:
    x, query, learner = drawn(1, 6, 4), drawn(1, 3, 4, seed=2), learner_of()
    plain = learner.predict(learner.adapt(Support.of(x, TARGETS)), query)
    moved = learner.predict(learner.adapt(Support.of(size * x + offset, TARGETS)), size * query + offset)
    assert_close(moved.log_probs, plain.log_probs, atol=5e-3, rtol=1e-3)


def test_equal_examples_are_answered_by_their_numbers() -> None:
    x, learner = torch.ones(1, 6, 4), learner_of(penalty=1e-4)
    answer = learner.predict(learner.adapt(Support.of(x, TARGETS)), x)
    expected = (torch.bincount(TARGETS[0]) / 6).expand(1, 6, 3)
    assert_close(answer.probabilities, expected, atol=1e-3, rtol=0)


def test_pitfall_25_inner_nan_is_refused_and_never_answered() -> None:
    x = drawn(1, 6, 4)
    x[0, 2, 1] = torch.nan
    with pytest.raises(LearnerError, match="finite"):
        learner_of().adapt(Support.of(x, TARGETS))


def test_the_encoder_learns_through_the_optimum(tmp_path: Path) -> None:
    made = trained(tmp_path, "logistic", training_steps=20)
    assert made.config.metrics["validation"]["accuracy_5w1s"] > 0.4
