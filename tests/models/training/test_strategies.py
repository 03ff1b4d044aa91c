"""Searches on functions with a known best, and their reproduction by a seed."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from models.training.evolution import AntitheticES, CmaEs, ranks
from models.training.reinforce import Reinforce, leave_one_out
from models.training.search import SearchError
from models.training.strategy import Ascent, Strategy

TARGET = torch.linspace(-1, 1, 10)
START = torch.zeros(10)
STRATEGIES: dict[str, Callable[[int], Strategy]] = {
    "evolution": lambda seed: AntitheticES(START, 0.1, 16, 0.05, seed),
    "cma-es": lambda seed: CmaEs(START, 0.3, 16, seed),
    "reinforce": lambda seed: Reinforce(START, 0.1, 16, 0.05, seed),
}


def climb(
    strategy: Strategy, fitness: Callable[[Tensor], Tensor], generations: int, start: int = 0, end: int = 0
) -> Strategy:
    """`end` is where the rate would be 0, as in a training of that many generations."""
    for generation in range(start, generations):
        rate = 1 - generation / (end or generations)
        strategy.tell(generation, fitness(strategy.ask(generation)), rate)
    return strategy


def closeness(population: Tensor) -> Tensor:
    return -(population - TARGET).square().sum(1)


@pytest.mark.parametrize("name", STRATEGIES)
def test_each_finds_the_top_of_a_quadratic(name: str) -> None:
    found = climb(STRATEGIES[name](0), closeness, 100)
    assert float(-closeness(found.mean[None])) < 0.01


@pytest.mark.parametrize("name", STRATEGIES)
def test_pitfall_21_a_seeded_search_reproduces_bitwise(name: str) -> None:
    first = climb(STRATEGIES[name](3), closeness, 20)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    again = climb(STRATEGIES[name](3), closeness, 20)
    assert torch.equal(first.mean, again.mean)
    assert not torch.equal(first.mean, climb(STRATEGIES[name](4), closeness, 20).mean)


@pytest.mark.parametrize("name", STRATEGIES)
def test_pitfall_21_a_resumed_search_is_the_one_never_interrupted(name: str) -> None:
    whole = climb(STRATEGIES[name](0), closeness, 20)
    cut = climb(STRATEGIES[name](0), closeness, 9, end=20)
    resumed = STRATEGIES[name](0)
    resumed.restore({key: value.clone() for key, value in cut.state().items()})
    assert torch.equal(climb(resumed, closeness, 20, start=9).mean, whole.mean)


def test_pitfall_21_antithetic_pairs_share_noise() -> None:
    strategy = AntitheticES(START, 0.1, 8, 0.05, 0)
    plus, minus = strategy.ask(5).chunk(2)
    torch.testing.assert_close(plus - strategy.mean, strategy.mean - minus)
    assert torch.equal(strategy.ask(5), strategy.ask(5))
    assert not torch.equal(strategy.ask(5), strategy.ask(6))


def test_drawing_leaves_the_generators_of_others_alone() -> None:
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    expected = np.random.rand(), torch.rand(1)  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    for make in STRATEGIES.values():
        climb(make(0), closeness, 2)
    assert np.random.rand() == expected[0]  # noqa: NPY002
    assert torch.equal(torch.rand(1), expected[1])


def test_only_the_order_of_fitness_matters_to_evolution() -> None:
    def monotone(population: Tensor) -> Tensor:
        return closeness(population).exp() * 1e6

    plain, bent = (climb(STRATEGIES["evolution"](0), f, 10).mean for f in (closeness, monotone))
    assert torch.equal(plain, bent)


def test_ranks_by_hand() -> None:
    assert ranks(torch.tensor([3.0, -1.0, 0.0])).tolist() == [0.5, -0.5, 0.0]
    assert ranks(torch.tensor([1.0, 1.0, 1.0])).tolist() == [0.0, 0.0, 0.0]
    assert ranks(torch.tensor([5.0, 5.0, 1.0])).tolist() == [0.25, 0.25, -0.5]


def test_the_baseline_by_hand() -> None:
    """3 − (1 + 2)/2, 1 − (3 + 2)/2, 2 − (3 + 1)/2."""
    assert leave_one_out(torch.tensor([3.0, 1.0, 2.0])).tolist() == [1.5, -1.5, 0.0]


def test_the_policy_gradient_is_that_of_the_mean_reward() -> None:
    """For a linear reward a·θ the gradient of E[R] in μ is a, whatever σ is."""
    slope = torch.tensor([1.0, -2.0, 0.5])
    policy = Reinforce(torch.zeros(3), 0.3, 20_000, 0.1, 0)
    drawn = (policy.ask(0) - policy.mean) / policy.sigma
    estimate = leave_one_out(policy.ask(0) @ slope) @ drawn / policy.sigma / len(drawn)
    torch.testing.assert_close(estimate, slope, atol=0.05, rtol=0)


def test_equal_rewards_move_nothing() -> None:
    policy = Reinforce(START, 0.1, 8, 0.05, 0)
    policy.tell(0, torch.full((8,), 0.2), 1.0)
    assert torch.equal(policy.mean, START)
    assert policy.sigma == pytest.approx(0.1)


def test_adam_is_that_of_torch() -> None:
    parameter = torch.zeros(3, requires_grad=True)
    theirs = torch.optim.Adam([parameter], lr=0.1, maximize=True)
    ours, value = Ascent(3, 0.1), torch.zeros(3)
    for count in range(5):
        gradient = torch.tensor([1.0, -3.0, 0.1]) * (count + 1)
        parameter.grad = gradient.clone()
        theirs.step()
        value = ours.step(value, gradient, count, 1.0)
    torch.testing.assert_close(value, parameter.detach())


def test_reinforce_learns_inner_rates_of_quadratics() -> None:
    """Three steps of gradient descent on ½ Σ h_i (w_i − c_i)²: the rate of each coordinate goes to 1/h_i.

    The reward is a count of tasks that end close to their optimum, which has no gradient.
    """
    curvature = torch.tensor([0.5, 2.0, 8.0])

    def solved(log_rates: Tensor, seed: int) -> Tensor:
        goal = torch.randn(64, 3, generator=torch.Generator().manual_seed(seed))
        left = (1 - log_rates.exp()[:, None] * curvature).pow(3) * goal
        return (left.square().sum(-1) < 0.05).float().mean(1)

    policy = Reinforce(torch.full((3,), math.log(0.05)), 0.3, 64, 0.1, 0)
    before = float(solved(policy.mean[None], 999))
    for generation in range(150):
        policy.tell(generation, solved(policy.ask(generation), generation), 1 - generation / 150)
    assert before < 0.1
    assert float(solved(policy.mean[None], 999)) > 0.9
    assert (policy.mean.exp() * curvature - 1).abs().max() < 0.4


def test_cma_es_without_its_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cma", None)
    with pytest.raises(SearchError, match=r"hyperserve\[search\]"):
        CmaEs(START, 0.1, 4, 0)
