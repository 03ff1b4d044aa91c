"""Families of functions and the tasks drawn from them."""

import math

import pytest
import torch
from torch.testing import assert_close

from models.data.dataset import DatasetError
from models.data.functions import (
    Completion,
    Family,
    FunctionConfig,
    FunctionSampler,
    GaussianProcess,
    Purpose,
    Sinusoids,
)

CONFIG = FunctionConfig(min_shot=2, max_shot=6, queries=3, tasks=50)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_sinusoids_are_those_of_maml() -> None:
    height, phase = Sinusoids.parameters(generator(), 10_000)
    assert (float(height.min()), float(height.max())) == pytest.approx((0.1, 5), abs=0.01)
    assert (float(phase.min()), float(phase.max())) == pytest.approx((0, math.pi), abs=0.01)
    x, y = Sinusoids().draw(generator(), 10_000, 3)
    assert (float(x.min()), float(x.max())) == pytest.approx((-5, 5), abs=0.01)
    expected = height[:, None, None] * torch.sin(x + phase[:, None, None])
    assert_close(y, expected)


def test_draws_of_the_gaussian_process_have_its_covariance() -> None:
    x, y = GaussianProcess().draw(generator(), 20_000, 2)
    distance = (x[:, 0] - x[:, 1]).abs()[:, 0]
    product = (y[:, 0] * y[:, 1])[:, 0]
    assert float(y.square().mean()) == pytest.approx(1 + 0.02**2, abs=0.03)
    for low, high in ((0.0, 0.1), (0.3, 0.5), (1.5, 4.0)):
        near = (distance >= low) & (distance < high)
        expected = (-0.5 * (distance[near] / 0.4).square()).exp().mean()
        assert float(product[near].mean()) == pytest.approx(float(expected), abs=0.06)


def test_pictures_are_seen_at_pixels_none_of_them_twice() -> None:
    pictures = torch.rand(3, 2, 4, 5, generator=generator())
    family = Completion(pictures)
    assert (family.dim, family.target, family.most_points) == (2, 2, 20)
    x, y = family.draw(generator(), 8, 20)
    for places, values in zip(x, y, strict=True):
        row, column = (places[:, 0] * 3).round().long(), (places[:, 1] * 4).round().long()
        assert len(set(zip(row.tolist(), column.tolist(), strict=True))) == 20
        assert any(values.equal(picture[:, row, column].T) for picture in pictures)
    assert (float(x.min()), float(x.max())) == (0, 1)


@pytest.mark.parametrize("family", [Sinusoids(), GaussianProcess(), Completion(torch.rand(2, 1, 4, 4))])
def test_tasks_have_shots_of_the_range_and_fresh_queries(family: Family) -> None:
    drawn = FunctionSampler(family, CONFIG, 0).episodes(3)
    shots = drawn.support_mask.sum(1)
    assert set(shots.tolist()) == set(range(2, 7))
    assert drawn.support_y is not None
    assert drawn.support_x.shape == (50, 6, family.dim)
    assert drawn.support_y.shape == (50, 6, family.target)
    assert drawn.query_y.shape == (50, 3, family.target)
    apart = (drawn.support_x[:, :, None] - drawn.query_x[:, None]).abs().amax(-1)
    assert bool((apart > 0).all())
    assert not drawn.n_way.any()


def test_a_step_is_the_same_again_and_no_other() -> None:
    def queries(seed: int, step: int, purpose: Purpose = Purpose.training) -> torch.Tensor:
        return FunctionSampler(Sinusoids(), CONFIG, seed, purpose).episodes(step).query_y

    assert queries(0, 3).equal(queries(0, 3))
    others = [
        queries(0, 4),
        queries(1, 3),
        queries(0, 3, Purpose.validation),
        queries(0, 3, Purpose.measurement),
    ]
    assert not any(queries(0, 3).equal(other) for other in others)


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(DatasetError, match="no range"):
        FunctionSampler(Sinusoids(), FunctionConfig(min_shot=5, max_shot=2), 0)
    with pytest.raises(DatasetError, match="more than 16 points"):
        FunctionSampler(Completion(torch.rand(2, 1, 4, 4)), FunctionConfig(max_shot=15, min_shot=1), 0)
    with pytest.raises(DatasetError, match="no pictures"):
        Completion(torch.rand(0, 1, 4, 4))
