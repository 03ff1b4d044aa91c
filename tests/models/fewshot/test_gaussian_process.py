"""Gaussian process regression with amortised kernels: any units, any number of examples, an order of its own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from models.encoders.identity import Identity, IdentityConfig
from models.fewshot.gaussian_process import MOST_EXAMPLES, GaussianProcessConfig, GaussianProcessLearner
from models.noise import Noise
from models.predictive import Gaussian
from models.protocol import LearnerError, Support, UnsupportedSupportError
from models.weights import nbytes


@pytest.fixture(scope="module")
def learner() -> GaussianProcessLearner:
    """An untrained network: a plain kernel that only the examples change."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        found = GaussianProcessLearner(Identity(IdentityConfig()), GaussianProcessConfig(width=8, steps=8))
    return found.eval().requires_grad_(False)


def ask(learner: GaussianProcessLearner, x: Tensor, y: Tensor, query: Tensor) -> Gaussian:
    answer = learner.predict(learner.adapt(Support.of(x[None], y[None])), query[None], Noise(2))
    assert answer.epistemic is not None
    for values in (answer.mean, answer.aleatoric, answer.epistemic):
        assert bool(values.isfinite().all())
    assert bool((answer.aleatoric > 0).all())
    return answer


def wave(count: int, dim: int = 1) -> tuple[Tensor, Tensor]:
    x = torch.randn(count, dim, generator=torch.Generator().manual_seed(1))
    return x, torch.sin(x.sum(1, keepdim=True)) + 3


QUERY = torch.linspace(-2, 2, 7)[:, None]


def test_units_do_not_matter(learner: GaussianProcessLearner) -> None:
    x, y = wave(12)
    plain = ask(learner, x, y, QUERY)
    other = ask(learner, 500 * x + 2000, 1e6 * y - 4e6, 500 * QUERY + 2000)
    assert_close(other.mean, 1e6 * plain.mean - 4e6, rtol=1e-3, atol=1e3)
    assert_close(other.aleatoric, 1e12 * plain.aleatoric, rtol=1e-2, atol=0)


def test_a_line_is_continued_and_far_away_the_interval_opens(learner: GaussianProcessLearner) -> None:
    x = torch.linspace(0, 5, 10)[:, None]
    answer = ask(learner, x, 2 * x, torch.tensor([[2.2], [-3.0], [-50.0]]))
    assert answer.epistemic is not None
    near, far, farther = answer.epistemic[0, :, 0].tolist()
    assert near < far < farther
    assert_close(answer.mean[0, :2, 0], torch.tensor([4.4, -6.0]), atol=0.3, rtol=0)


def test_the_order_of_examples_changes_no_bit_and_that_of_columns_little(
    learner: GaussianProcessLearner,
) -> None:
    x, y = wave(20, 3)
    query = torch.randn(5, 3, generator=torch.Generator().manual_seed(2))
    plain = ask(learner, x, y, query)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(3))
    assert ask(learner, x[order], y[order], query).mean.equal(plain.mean)
    columns = torch.tensor([2, 0, 1])
    assert_close(ask(learner, x[:, columns], y, query[:, columns]).mean, plain.mean)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ([[3.0]], [[4.0]]),
        ([[0.0]], [[0.0]]),
        ([[1.0], [2.0], [3.0]], [[5.0], [5.0], [5.0]]),
        ([[1.0], [1.0], [1.0]], [[0.0], [1.0], [2.0]]),
        ([[1.0], [1.0]], [[1.0], [1.0]]),
        ([[0.0], [1.0]], [[1e10], [-1e10]]),
        ([[0.0], [1.0]], [[1e-30], [-1e-30]]),
    ],
    ids=["one", "one at zero", "constant targets", "one place", "one pair twice", "large", "small"],
)
def test_small_and_odd_support_sets(
    learner: GaussianProcessLearner, x: list[list[float]], y: list[list[float]]
) -> None:
    answer = ask(learner, torch.tensor(x), torch.tensor(y), torch.tensor([x[0], [1e6]]))
    spread = torch.tensor(y).std(unbiased=False) + torch.tensor(y).abs().max() + 1
    assert float((answer.mean[0, 0] - torch.tensor(y).mean()).abs()) <= 2 * float(spread)


def test_what_has_no_variance_in_single_precision_is_refused(learner: GaussianProcessLearner) -> None:
    x = torch.tensor([[[0.0], [1.0]]])
    with pytest.raises(LearnerError, match="no variance"):
        learner.adapt(Support.of(x, 1e30 * x))
    answer = learner.predict(learner.adapt(Support.of(x, x)), torch.tensor([[[0.5], [1e30]]]))
    assert answer.aleatoric[0, :, 0].isfinite().all()
    assert answer.epistemic is not None
    assert answer.epistemic[0, :, 0].isnan().tolist() == [False, True]


def test_constant_columns_tell_nothing(learner: GaussianProcessLearner) -> None:
    x, y = wave(12)
    wide = torch.cat((x, torch.full_like(x, 7.0)), dim=1)
    answer = ask(learner, wide, y, torch.cat((QUERY, torch.full_like(QUERY, 7.0)), dim=1))
    assert_close(answer.mean, ask(learner, x, y, QUERY).mean, atol=0.3, rtol=0)


def test_each_number_of_the_target_is_a_function_of_its_own(learner: GaussianProcessLearner) -> None:
    x, y = wave(10)
    both = torch.cat((y, 100 * x), dim=1)
    answer = ask(learner, x, both, QUERY)
    for index in range(2):
        alone = ask(learner, x, both[:, index : index + 1], QUERY)
        assert_close(answer.mean[..., index : index + 1], alone.mean)


def test_many_targets_share_a_kernel_where_the_weights_would_be_large(
    learner: GaussianProcessLearner,
) -> None:
    x, _ = wave(300, 2)
    y = torch.cat([torch.sin(x[:, :1] + phase) for phase in torch.linspace(0, 3, 40)], dim=1)
    weights = learner.adapt(Support.of(x[None], y[None]))
    assert weights.task["parts"].shape[1] == 1
    answer = learner.predict(weights, x[None, :4])
    assert_close(answer.mean[0], y[:4], atol=0.1, rtol=0)


def test_a_thousand_examples_and_no_more(learner: GaussianProcessLearner) -> None:
    x, y = wave(MOST_EXAMPLES, 2)
    small = GaussianProcessLearner(
        learner.encoder, GaussianProcessConfig(width=8, many_steps=1, full_steps=0)
    ).eval()
    with torch.no_grad():
        assert nbytes(small.adapt(Support.of(x[None], y[None]))) < 4.2e6
        more, values = wave(MOST_EXAMPLES + 1)
        with pytest.raises(UnsupportedSupportError, match="at most 1000"):
            small.adapt(Support.of(more[None], values[None]))
