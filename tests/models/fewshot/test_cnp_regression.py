"""The conditional neural process for functions: its sum, its likelihood, its floor."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal
from torch.testing import assert_close

from models.encoders.identity import Identity, IdentityConfig
from models.fewshot.cnp_regression import CnpRegression, CnpRegressionConfig
from models.predictive import Gaussian
from models.protocol import Episodes, LearnerError, Support


def learner(**changes: object) -> CnpRegression:
    torch.manual_seed(0)
    config = CnpRegressionConfig.model_validate({"width": 16, **changes})
    return CnpRegression(Identity(IdentityConfig(dim=config.dim)), config).eval().requires_grad_(False)


def drawn(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_answer_is_the_decoder_on_the_mean_of_the_context() -> None:
    cnp, x, y, query = learner(), drawn(1, 5, 1), drawn(1, 5, 1, seed=2), drawn(1, 3, 1, seed=3)
    answer = cnp.predict(cnp.adapt(Support.of(x, y)), query)
    assert isinstance(answer, Gaussian)
    r = torch.stack([cnp.context(torch.cat(pair)) for pair in zip(x[0], y[0], strict=True)]).mean(0)
    for index, place in enumerate(query[0]):
        mean, raw = cnp.decoder(torch.cat((r, place)))
        sigma = 0.1 + 0.9 * math.log1p(math.exp(raw))
        assert_close(answer.mean[0, index, 0], mean)
        assert_close(answer.aleatoric[0, index, 0], torch.tensor(sigma**2))
    assert answer.epistemic is None


def test_one_more_example_costs_one_term_whatever_came_before() -> None:
    cnp = learner()
    first = cnp.adapt(Support.of(drawn(1, 500, 1), drawn(1, 500, 1, seed=2)))
    seen: list[int] = []
    cnp.context.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[1]))
    x, y = drawn(1, 1, 1, seed=3), drawn(1, 1, 1, seed=4)
    grown = cnp.adapt(Support.of(x, y), prior=first)
    assert seen == [1]
    assert sum(value.numel() for value in grown.task.values()) == 16 + 1
    assert_close(grown.task["sum"], first.task["sum"] + cnp.context(torch.cat((x, y), -1))[:, 0])
    assert grown.task["count"].tolist() == [501]


def test_the_loss_is_the_mean_over_context_and_queries_by_torch_distributions() -> None:
    cnp = learner(target=2)
    x, y, query, target = (
        drawn(2, 4, 1),
        drawn(2, 4, 2, seed=2),
        drawn(2, 3, 1, seed=3),
        drawn(2, 3, 2, seed=4),
    )
    support_mask = torch.tensor([[True] * 4, [True, True, False, False]])
    query_mask = torch.tensor([[True] * 3, [True, False, True]])
    zero = torch.zeros(2, dtype=torch.long)
    loss = cnp.loss(Episodes(x, y, support_mask, query, target, query_mask, zero, zero.bool()), 0.0)
    for task in range(2):
        kept, asked = support_mask[task], query_mask[task]
        own = Support.of(x[task : task + 1, kept], y[task : task + 1, kept])
        places = torch.cat((x[task, kept], query[task, asked]))[None]
        truth = torch.cat((y[task, kept], target[task, asked]))
        answer = cnp.predict(cnp.adapt(own), places)
        expected = -Normal(answer.mean[0], answer.aleatoric[0].sqrt()).log_prob(truth).sum(-1).mean()
        assert_close(loss.total[task], expected)
        assert_close(loss.parts["mse"][task], (answer.mean[0] - truth).square().mean())


@pytest.mark.parametrize("floor", [0.1, 0.01])
def test_no_answer_is_sharper_than_the_floor(floor: float) -> None:
    cnp = learner(sigma_floor=floor)
    final = cnp.decoder[-1]
    assert isinstance(final, torch.nn.Linear)
    final.bias[1] = -100.0
    answer = cnp.predict(cnp.adapt(Support.of(drawn(1, 5, 1), drawn(1, 5, 1))), drawn(1, 9, 1))
    assert_close(answer.aleatoric, torch.full((1, 9, 1), floor**2))


def test_pictures_are_functions_of_two_numbers_and_colours_of_three() -> None:
    cnp = learner(dim=2, target=3)
    weights = cnp.adapt(Support.of(torch.rand(2, 20, 2), torch.rand(2, 20, 3)))
    assert cnp.predict(weights, torch.rand(2, 784, 2)).mean.shape == (2, 784, 3)


def test_an_empty_context_is_answered() -> None:
    cnp = learner()
    answer = cnp.predict(cnp.adapt(Support.of(torch.zeros(2, 0, 1), torch.zeros(2, 0, 1))), drawn(2, 3, 1))
    assert answer.mean.shape == (2, 3, 1)
    assert (answer.aleatoric > 0).all()


def test_values_too_large_are_refused_and_inputs_too_large_are_answered() -> None:
    cnp = learner()
    with pytest.raises(LearnerError, match="not finite"):
        cnp.adapt(Support.of(drawn(1, 3, 1), torch.full((1, 3, 1), torch.inf)))
    weights = cnp.adapt(Support.of(drawn(1, 3, 1), drawn(1, 3, 1)))
    assert cnp.predict(weights, cnp.embed(torch.tensor([[3e38], [-3e38]]))[None]).mean.isfinite().all()


def test_an_encoder_of_another_length_is_refused() -> None:
    with pytest.raises(LearnerError, match="gives 3 numbers"):
        CnpRegression(Identity(IdentityConfig(dim=3)), CnpRegressionConfig(dim=2))
