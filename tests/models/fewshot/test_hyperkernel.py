"""Experts against refits, leave-one-out scores against leaving out, and bounds on the work of large tasks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from models.encoder_protocol import EncoderConfig
from models.encoders.identity import Identity
from models.fewshot import hyperkernel
from models.fewshot.hyperkernel import HyperKernel, HyperKernelConfig
from models.fewshot.kernels.experts import KERNELS, Expert, Fit, Labels, fit
from models.fewshot.kernels.support_sets import MOST_POINTS, in_order, thinned
from models.noise import Noise
from models.protocol import Support

WAY, DIM = 3, 6
RIDGE = Expert(KERNELS[0], "ridge", 0.3)
LOGISTIC = Expert(KERNELS[0], "logistic", 0.2)
PROTOTYPE = Expert(KERNELS[0], "prototype")


def drawn(shots: list[int], dim: int = DIM, seed: int = 1, noise: float = 0.7) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(len(shots)).repeat_interleave(torch.tensor(shots))
    means = torch.randn(len(shots), dim, generator=generator)
    return means[y] + noise * torch.randn(len(y), dim, generator=generator), y


def labels_of(y: Tensor) -> Labels:
    hot = torch.nn.functional.one_hot(y, WAY).double()[None]
    return Labels(hot, hot.sum(1), torch.ones(1, len(y), dtype=torch.bool), torch.ones(1, WAY).bool())


def fitted(x: Tensor, y: Tensor, expert: Expert) -> Fit:
    return fit((x @ x.T).double()[None, None], labels_of(y), [(0, expert)])


@pytest.fixture(scope="module")
def learner() -> HyperKernel:
    torch.manual_seed(0)
    return HyperKernel(Identity(EncoderConfig()), HyperKernelConfig()).eval().requires_grad_(False)


def test_the_score_of_a_left_out_example_is_that_of_a_prototype_without_it() -> None:
    x, y = drawn([4, 4, 4])
    whole = fitted(x, y, PROTOTYPE)
    for left_out in (0, 5, 11):
        kept = torch.arange(len(y)) != left_out
        without = fitted(x[kept], y[kept], PROTOTYPE)
        side = (x[left_out] @ x[kept].T).double()
        scores = side @ without.coefficients[0, 0] + without.bias[0, 0]
        assert_close(whole.outside[0, 0, left_out], scores)


def test_the_score_of_a_left_out_example_is_that_of_a_ridge_regression_without_it() -> None:
    """With its penalty for the other examples as it was, and targets centred as they were."""
    x, y = drawn([4, 4, 4])
    whole, kernel = fitted(x, y, RIDGE), (x @ x.T).double()
    targets = labels_of(y).centred[0]
    for left_out in (0, 7):
        kept = torch.arange(len(y)) != left_out
        system = kernel[kept][:, kept] + (0.3 + 1e-5) * torch.eye(len(y) - 1, dtype=torch.double)
        scores = kernel[left_out, kept] @ torch.linalg.solve(system, targets[kept])
        assert_close(whole.outside[0, 0, left_out], scores - scores.mean(), atol=1e-6, rtol=1e-6)


def test_logistic_regression_is_at_its_minimum() -> None:
    x, y = drawn([6, 2, 4])
    # As views have them: points of mean square 1.
    labels, kernel = labels_of(y), (x @ x.T).double() / x.square().sum(1).mean()
    alpha = fit(kernel[None, None], labels, [(0, LOGISTIC)]).coefficients[0, 0]
    shares = (kernel @ alpha).softmax(-1)
    slope = labels.weight[0, :, None] * (shares - labels.hot[0]) + 0.2 * alpha
    assert float((kernel @ slope).abs().max()) < 0.02
    assert float(labels.weight[0] @ labels.hot[0][:, 1]) == pytest.approx(4)


@pytest.mark.parametrize("shots", [[30, 30, 30], [1, 500], [4000, 1, 4000], [2000] * 3], ids=str)
def test_many_examples_become_at_most_as_many_points_and_no_class_is_lost(shots: list[int]) -> None:
    x, y = drawn(shots, 4)
    whole = in_order(Support.of(x[None], y[None]))
    part = thinned(whole, 100)
    assert part.features.shape[1] <= 100
    assert part.targets is not None
    assert part.mask.all()
    found = torch.bincount(part.targets[0], minlength=len(shots))
    assert bool((found >= torch.tensor(shots).clamp(max=100 // len(shots))).all())


def test_a_class_of_few_points_is_their_means() -> None:
    x, y = drawn([40] * 50, 4)
    part = thinned(in_order(Support.of(x[None], y[None])), 50)
    assert part.targets is not None
    means = torch.stack([x[y == c].mean(0) for c in part.targets[0].tolist()])
    assert_close(part.features[0], means)


@pytest.mark.parametrize("shots", [[1, 700], [20] * 30, [1] * 400], ids=["1-and-700", "30x20", "400x1"])
def test_a_large_task_is_answered_right(learner: HyperKernel, shots: list[int]) -> None:
    x, y = drawn(shots, 16, noise=0.1)
    weights = learner.adapt(Support.of(x[None], y[None]))
    assert weights.n_points is not None
    assert int(weights.n_points[0]) <= MOST_POINTS
    answer = learner.predict(weights, x[None, :: max(1, len(x) // 40)])
    right = answer.log_probs[0].argmax(-1) == y[:: max(1, len(x) // 40)]
    assert float(right.float().mean()) > 0.95
    assert bool(answer.log_probs.isfinite().all())


def test_parts_of_a_batch_and_of_queries_answer_as_the_whole(
    learner: HyperKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = [drawn([3, 5, 2], 8, seed) for seed in range(5)]
    support = Support.of(torch.stack([x for x, _ in tasks]), torch.stack([y for _, y in tasks]))
    query = torch.randn(5, 7, 8, generator=torch.Generator().manual_seed(3))
    whole = learner.predict(learner.adapt(support), query, Noise(8))
    monkeypatch.setattr(hyperkernel, "_MOST_AT_ONCE", 2_000)
    parts = learner.predict(learner.adapt(support), query, Noise(8))
    for name in ("log_probs", "expected_entropy", "unknown", "novelty"):
        one, other = getattr(whole, name), getattr(parts, name)
        assert (one is None) == (other is None)
        if one is not None:
            assert_close(one, other)
