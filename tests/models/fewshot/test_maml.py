"""MAML against an unroll by plain autograd, one task at a time, and the pitfalls of its reference code."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from models.protocol import Episodes, LearnerError, Span, Support, UnsupportedSupportError
from tests.models.fewshot.maml_cases import (
    PLACES,
    TARGETS,
    drawn,
    episodes_of,
    head_learner,
    plain_head,
    support_of,
)
from tests.models.fewshot.short_training import trained


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("ways", [None, 3])
@pytest.mark.parametrize("clip", [10.0, 0.05])
def test_multi_step_adapting_is_the_unroll_of_autograd(steps: int, ways: int | None, clip: float) -> None:
    learner, x, query = (
        head_learner(steps=steps, ways=ways, clip=clip),
        drawn(1, 6, 4),
        drawn(1, 3, 4, seed=2),
    )
    if learner.head is None:
        weight, bias = torch.zeros(3, 4), torch.zeros(3)
    else:
        weight, bias = learner.head.weight[PLACES], learner.head.bias[PLACES]
    weight, bias = weight.detach().requires_grad_(), bias.detach().requires_grad_()
    weight, bias = plain_head(x[0], weight, bias, steps, 0.3, clip, second=False)[-1]
    with torch.no_grad():
        made = learner.adapt(support_of(x))
        answer = learner.predict(made, query)
    assert_close(made.rows["weight"][0], weight)
    assert_close(answer.log_probs[0], (query[0] @ weight.T + bias).log_softmax(-1))
    assert answer.epistemic is None
    assert answer.unknown is None


@pytest.mark.parametrize("order", ["first", "second"])
def test_the_outer_gradient_is_that_of_the_unroll(order: str) -> None:
    """Places are those of the episode here, 0, 1, 2. First order takes inner gradients as numbers."""
    x, query, target = drawn(1, 6, 4), drawn(1, 3, 4, seed=2), torch.tensor([[0, 2, 1]])
    learner = head_learner(steps=3, ways=3, order=order)
    assert learner.head is not None
    loss = learner.loss(episodes_of(x, query, target), 0.0).total
    loss.sum().backward()
    weight, bias = (p.detach().clone().requires_grad_() for p in learner.head.parameters())
    last = plain_head(x[0], weight, bias, 3, 0.3, 10.0, second=order == "second")[-1]
    expected = F.cross_entropy(query[0] @ last[0].T + last[1], target[0]) / torch.tensor(3.0).log()
    expected.backward()
    assert_close(loss[0], expected)
    assert_close(learner.head.weight.grad, weight.grad)
    assert_close(learner.head.bias.grad, bias.grad)


def test_sum_or_mean_a_task_beside_another_descends_as_alone() -> None:
    learner, x = head_learner(), drawn(2, 6, 4)
    both = Support.of(x, TARGETS.repeat(2, 1))
    alone = learner.adapt(Support.of(x[:1], TARGETS))
    assert_close(learner.adapt(both).rows["weight"][:1], alone.rows["weight"])


def test_multi_step_loss_moves_to_the_last_step() -> None:
    learner = head_learner(steps=4, multi_step=True, multi_step_until=0.5)
    assert learner.config.importance(0.0) == pytest.approx([0.25] * 4)
    assert learner.config.importance(0.25) == pytest.approx([0.125] * 3 + [0.625])
    assert learner.config.importance(0.499) == pytest.approx([0.0075] * 3 + [0.9775])
    assert learner.config.importance(0.5) == [0, 0, 0, 1]
    assert head_learner(steps=4).config.importance(0.0) == [0, 0, 0, 1]


def test_learned_rates_are_one_per_tensor_and_step_and_are_learned() -> None:
    learner = head_learner(steps=2, answer_steps=4, learned_rates=True, ways=3)
    assert learner.rates is not None
    assert learner.rates.shape == (2, 2)
    learner.loss(
        episodes_of(drawn(1, 6, 4), drawn(1, 3, 4, seed=2), torch.tensor([[0, 2, 1]])), 0.0
    ).total.sum().backward()
    assert learner.rates.grad is not None
    assert (learner.rates.grad != 0).all()
    with torch.no_grad():
        learner.rates[1] = 0
        stopped = learner.adapt(support_of(drawn(1, 6, 4)))
    # Steps beyond those of training take the last rate, which is 0 here.
    assert_close(head_learner(steps=1, ways=3).adapt(support_of(drawn(1, 6, 4))).rows, stopped.rows)


def test_fixed_way_another_is_refused_and_a_zero_start_takes_any() -> None:
    assert head_learner(ways=3).traits.ways == Span(3, 3)
    assert head_learner().traits.ways == Span(2)
    two = Support.of(drawn(1, 4, 4), torch.tensor([[0, 1, 0, 1]]))
    with pytest.raises(UnsupportedSupportError, match="3 classes"):
        head_learner(ways=3).adapt(two)
    assert head_learner().adapt(two).rows["weight"].shape == (1, 2, 4)


def test_pitfall_25_inner_nan_steps_are_clipped_and_what_is_not_finite_is_refused() -> None:
    large = 1e4 * drawn(1, 6, 4)
    made = head_learner(clip=1.0).adapt(support_of(large))
    assert made.rows["weight"].abs().max() <= 5 * 0.3 + 1e-6
    with pytest.raises(LearnerError, match="diverge"):
        head_learner().adapt(support_of(torch.full((1, 6, 4), torch.inf)))


def test_first_order_for_the_first_share_of_training() -> None:
    asked = episodes_of(drawn(1, 6, 4), drawn(1, 3, 4, seed=2), torch.tensor([[0, 2, 1]]))

    def gradient(progress: float, **changes: object) -> Tensor:
        learner = head_learner(steps=3, ways=3, **changes)
        learner.loss(asked, progress).total.sum().backward()
        assert learner.head is not None
        assert learner.head.weight.grad is not None
        return learner.head.weight.grad

    annealed = [gradient(progress, first_order_until=0.3) for progress in (0.0, 0.29, 0.3, 1.0)]
    first, second = gradient(0.0, order="first"), gradient(0.0)
    assert not torch.allclose(first, second, atol=1e-4)
    for found, expected in zip(annealed, (first, first, second, second), strict=True):
        assert_close(found, expected)


def test_multi_step_loss_and_learned_rates_are_those_of_the_unroll() -> None:
    x, query, target = drawn(1, 6, 4), drawn(1, 3, 4, seed=2), torch.tensor([[0, 2, 1]])
    learner = head_learner(steps=2, ways=3, learned_rates=True, multi_step=True)
    assert learner.head is not None
    assert learner.rates is not None
    with torch.no_grad():
        learner.rates.copy_(torch.tensor([[0.1, 0.2], [0.3, 0.4]]))
    loss = learner.loss(episodes_of(x, query, target), 0.0).total
    loss.sum().backward()
    moved = [p.detach().clone().requires_grad_() for p in learner.head.parameters()]
    rates = learner.rates.detach().clone().requires_grad_()
    fast, expected = moved, torch.zeros(())
    for step in range(2):
        inner = F.cross_entropy(x[0] @ fast[0].T + fast[1], TARGETS[0])
        gradients = torch.autograd.grad(inner, fast, create_graph=True)
        fast = [value - rates[step, i] * gradients[i] for i, value in enumerate(fast)]
        expected = expected + 0.5 * F.cross_entropy(query[0] @ fast[0].T + fast[1], target[0])
    (expected / torch.tensor(3.0).log()).backward()
    assert_close(loss.sum(), (expected / torch.tensor(3.0).log()).detach())
    assert_close(learner.rates.grad, rates.grad)
    assert_close(learner.head.weight.grad, moved[0].grad)


def test_pitfall_24_sum_or_mean_over_tasks_the_trainer_takes_the_mean() -> None:
    """A task given twice has the loss and the outer gradient of one; HyperMAML's authors would double both."""
    x, query, target = drawn(1, 6, 4), drawn(1, 3, 4, seed=2), torch.tensor([[0, 2, 1]])
    one = episodes_of(x, query, target)
    two = Episodes(
        **{name: None if value is None else torch.cat((value, value)) for name, value in vars(one).items()}
    )
    found = []
    for episodes in (one, two):
        learner = head_learner(ways=3)
        loss = learner.loss(episodes, 0.0).total.mean()
        loss.backward()
        assert learner.head is not None
        found.append((loss.detach(), learner.head.weight.grad))
    assert_close(found[0], found[1])


def test_a_short_training_of_the_head_learns(tmp_path: Path) -> None:
    made = trained(tmp_path, "maml", training_steps=40)
    assert made.config.metrics["validation"]["accuracy_5w1s"] > 0.4
