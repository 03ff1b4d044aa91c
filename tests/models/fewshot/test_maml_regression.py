"""MAML on functions against an unroll by plain autograd, one task at a time, and what is answered beside the mean."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from models.encoders.identity import Identity, IdentityConfig
from models.fewshot.maml_regression import MamlRegression, MamlRegressionConfig
from models.protocol import Episodes, LearnerError, Support, UnsupportedSupportError


def learner(**changes: object) -> MamlRegression:
    torch.manual_seed(0)
    config = MamlRegressionConfig.model_validate({"hidden": (8, 8), "inner_lr": 0.05, **changes})
    return MamlRegression(Identity(IdentityConfig()), config).eval()


def names(maml: MamlRegression) -> list[str]:
    return [f"{kind}{layer}" for layer in range(len(maml.config.hidden) + 1) for kind in ("weight", "bias")]


def drawn(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def plain(weights: list[Tensor], x: Tensor) -> Tensor:
    for layer in range(0, len(weights), 2):
        x = x @ weights[layer] + weights[layer + 1]
        x = x.relu() if layer < len(weights) - 2 else x
    return x


def unrolled(maml: MamlRegression, x: Tensor, y: Tensor, steps: int, *, second: bool = True) -> list[Tensor]:
    """The weights of one task; learned rates are per step and tensor, or per step and weight."""
    weights: list[Tensor] = [maml.start[name] for name in names(maml)]
    for step in range(steps):
        loss = F.mse_loss(plain(weights, x), y)
        gradients = torch.autograd.grad(loss, weights, create_graph=second)
        rates = [maml.rates[name][step] if maml.rates else maml.config.inner_lr for name in names(maml)]
        clip = maml.config.clip
        weights = [
            value - rate * gradient.clamp(-clip, clip)
            for value, rate, gradient in zip(weights, rates, gradients, strict=True)
        ]
    return weights


def episodes(tasks: int = 2) -> Episodes:
    """Two tasks, of which the second has fewer examples and queries."""
    support, query = torch.ones(tasks, 5, dtype=torch.bool), torch.ones(tasks, 4, dtype=torch.bool)
    support[1:, 3:] = False
    query[1:, 2:] = False
    zero = torch.zeros(tasks, dtype=torch.long)
    x, y = drawn(tasks, 5, 1), drawn(tasks, 5, 1, seed=2)
    asked, target = drawn(tasks, 4, 1, seed=3), drawn(tasks, 4, 1, seed=4)
    return Episodes(x, y, support, asked, target, query, zero, zero.bool())


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("clip", [10.0, 0.05])
@pytest.mark.parametrize(
    "rates", [{}, {"learned_rates": True}, {"learned_rates": True, "rate_per_weight": True}]
)
def test_adapting_is_the_unroll_of_autograd(steps: int, clip: float, rates: dict[str, bool]) -> None:
    maml = learner(steps=steps, clip=clip, **rates)
    x, y, query = drawn(2, 5, 1), drawn(2, 5, 1, seed=2), drawn(2, 3, 1, seed=3)
    answer = maml.predict(maml.adapt(Support.of(x, y)), query)
    for task in range(2):
        assert_close(answer.mean[task], plain(unrolled(maml, x[task], y[task], steps), query[task]))
    assert answer.epistemic is None


@pytest.mark.parametrize("order", ["first", "second"])
@pytest.mark.parametrize("steps", [1, 2])
def test_the_outer_gradient_is_that_of_the_unroll(order: str, steps: int) -> None:
    """First order takes inner gradients as numbers. The loss is a mean over the real queries of each task."""
    maml, drawn_tasks = learner(order=order, steps=steps, learned_rates=True), episodes()
    maml.loss(drawn_tasks, 0.5).total.sum().backward()
    found = {name: p.grad.clone() for name, p in maml.named_parameters() if p.grad is not None}
    maml.zero_grad()
    assert drawn_tasks.support_y is not None
    for task in range(2):
        kept, asked = drawn_tasks.support_mask[task], drawn_tasks.query_mask[task]
        x, y = drawn_tasks.support_x[task, kept], drawn_tasks.support_y[task, kept]
        last = unrolled(maml, x, y, steps, second=order == "second")
        F.mse_loss(plain(last, drawn_tasks.query_x[task, asked]), drawn_tasks.query_y[task, asked]).backward()
    assert found.keys() == dict(maml.named_parameters()).keys()
    for name, parameter in maml.named_parameters():
        assert_close(found[name], parameter.grad)


def test_weights_after_any_number_of_steps_can_be_had() -> None:
    maml, support, query = learner(answer_steps=3), Support.of(drawn(1, 5, 1), drawn(1, 5, 1)), drawn(1, 3, 1)
    begun = maml.predict(maml.after(support, 0), query).mean[0]
    assert_close(begun, plain(unrolled(maml, query[0], query[0], 0), query[0]))
    assert_close(dict(maml.after(support, 3).task), dict(maml.adapt(support).task))


def test_rates_beyond_those_of_training_are_the_last() -> None:
    maml = learner(steps=1, learned_rates=True, rate_per_weight=True)
    assert {rate.shape for rate in maml.rates.values()} == {(1, *v.shape) for v in maml.start.values()}
    with torch.no_grad():
        for rate in maml.rates.values():
            rate.zero_()
    support = Support.of(drawn(1, 5, 1), drawn(1, 5, 1, seed=2))
    assert_close(dict(maml.after(support, 4).task), dict(maml.after(support, 0).task))


def test_pitfall_25_inner_steps_that_diverge_are_refused() -> None:
    maml = learner(steps=2)
    with pytest.raises(LearnerError, match="not finite"):
        maml.adapt(Support.of(drawn(1, 5, 1), torch.full((1, 5, 1), torch.nan)))
    start = maml.start["weight0"].detach().clone()
    moved = maml.adapt(Support.of(drawn(1, 5, 1), torch.full((1, 5, 1), 1e9))).task["weight0"][0]
    assert (moved - start).abs().max() <= 2 * 0.05 * 10 + 1e-5


def test_the_variance_is_that_of_validation_errors_after_as_many_shots() -> None:
    maml = learner()
    maml.noise.fit({1: torch.tensor([4.0]), 10: torch.tensor([0.25])})
    shots = torch.tensor([[True] * 10, [True] + [False] * 9])
    answer = maml.predict(
        maml.adapt(Support.of(drawn(2, 10, 1), drawn(2, 10, 1), mask=shots)), drawn(2, 3, 1)
    )
    assert_close(answer.aleatoric[0], torch.full((3, 1), 0.25))
    assert_close(answer.aleatoric[1], torch.full((3, 1), 4.0))


def test_a_prior_is_refused() -> None:
    maml, support = learner(), Support.of(drawn(1, 5, 1), drawn(1, 5, 1))
    with pytest.raises(UnsupportedSupportError):
        maml.adapt(support, prior=maml.adapt(support))


def test_the_network_of_the_paper_is_the_default_and_starts_normal() -> None:
    maml = MamlRegression(Identity(IdentityConfig()), MamlRegressionConfig(init=0.01))
    shapes = {name: tuple(value.shape) for name, value in maml.start.items()}
    assert shapes == {
        "weight0": (1, 40), "bias0": (40,), "weight1": (40, 40), "bias1": (40,), "weight2": (40, 1), "bias2": (1,)
    }  # fmt: skip
    assert float(maml.start["weight1"].detach().std()) == pytest.approx(0.01 * 0.88, rel=0.1)
    assert float(maml.start["weight1"].detach().abs().max()) <= 0.02
