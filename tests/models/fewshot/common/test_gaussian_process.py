"""Gaussian processes: the posterior is the textbook's, the gradient autograd's, steps lead uphill."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.testing import assert_close

from models.fewshot.common.gaussian_process import (
    CONSTANT,
    MATERN,
    NOISE,
    PARTS,
    RBF,
    ROUGHNESS,
    Examples,
    Kernel,
    Steps,
    factorised,
    gradient,
    negative_evidence,
    posterior,
    refine,
)


def drawn(tasks: int = 3, count: int = 9, dim: int = 2, target: int = 2) -> tuple[Kernel, Examples]:
    """Draw kernels and examples; the second task is padded from the sixth example on."""
    rng = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.double, generator=rng)

    mask = torch.ones(tasks, count, dtype=torch.double)
    mask[1, 5:] = 0
    examples = Examples(
        normal(tasks, count, dim) * mask[..., None], normal(tasks, count, target) * mask[..., None], mask
    )
    return Kernel(0.5 * normal(tasks, 2, dim) - 1, 0.5 * normal(tasks, PARTS) - 1), examples


def by_hand(kernel: Kernel, task: int, a: Tensor, b: Tensor) -> Tensor:
    weights, slopes = kernel.columns[task].exp()
    parts = kernel.parts[task].exp()
    squared = ((a[:, None] - b[None]) ** 2 * weights).sum(-1)
    q = (3 * parts[ROUGHNESS] * squared).sqrt()
    line = (a[:, None] * b[None] * slopes).sum(-1)
    rough = parts[MATERN] * (1 + q) * (-q).exp()
    return parts[RBF] * (-squared / 2).exp() + rough + line + parts[CONSTANT]


def test_the_posterior_is_that_of_each_task_alone() -> None:
    kernel, examples = drawn()
    query = torch.randn(3, 4, 2, dtype=torch.double, generator=torch.Generator().manual_seed(1))
    factor = factorised(kernel, examples)
    _, alpha = negative_evidence(factor, examples)
    mean, variance = posterior(kernel, examples.x, alpha, factor, examples.mask, query)
    for task, count in enumerate((9, 5, 9)):
        x, y = examples.x[task, :count], examples.y[task, :count]
        noise = kernel.parts[task, NOISE].exp() * torch.eye(count, dtype=torch.double)
        inverse = (by_hand(kernel, task, x, x) + noise).inverse()
        cross = by_hand(kernel, task, query[task], x)
        assert_close(mean[task], cross @ inverse @ y)
        own = by_hand(kernel, task, query[task], query[task]).diagonal()
        assert_close(variance[task], own - (cross @ inverse * cross).sum(1), atol=1e-8, rtol=1e-6)


def test_the_gradient_is_that_of_autograd() -> None:
    kernel, examples = drawn()
    vector = kernel.vector.clone().requires_grad_()
    expected, _ = negative_evidence(factorised(Kernel.of(vector), examples), examples)
    (slope,) = torch.autograd.grad(expected.sum(), vector)
    value, found = gradient(kernel, examples)
    assert_close(value, expected.detach())
    assert_close(found, slope)


def test_steps_lead_uphill_and_no_farther_than_the_prior_lets_them() -> None:
    kernel, examples = drawn()
    before, _ = gradient(kernel, examples)
    free = refine(kernel, examples, Steps(torch.full((3,), 20), 0.4, 10.0))
    after, _ = gradient(free, examples)
    assert bool((after < before).all())
    bound = refine(kernel, examples, Steps(torch.full((3,), 20), 0.4, 0.01))
    assert float((bound.vector - kernel.vector).abs().max()) < 0.05
    some = refine(kernel, examples, Steps(torch.tensor([20, 0, 20]), 0.4, 10.0))
    assert_close(some.vector[1], kernel.vector[1])
    assert_close(some.vector[0], free.vector[0])
