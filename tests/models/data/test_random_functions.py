"""Random functions: finite, of many lengths and units, keyed by the step."""

from __future__ import annotations

import torch

from models.data.functions import FunctionConfig, FunctionSampler, Purpose
from models.data.random_functions import RandomFunctions


def test_functions_of_many_lengths_and_units() -> None:
    lengths, sizes = set(), []
    for seed in range(30):
        x, y = RandomFunctions(most=6).draw(torch.Generator().manual_seed(seed), 4, 12)
        assert x.shape[:2] == (4, 12)
        assert y.shape == (4, 12, 1)
        assert bool(x.isfinite().all())
        assert bool(y.isfinite().all())
        lengths.add(x.shape[2])
        sizes += y.std(1).flatten().tolist()
    assert lengths >= {1, 2, 3}
    assert max(sizes) > 50
    assert min(sizes) < 0.1


def test_values_in_plain_units_have_deviation_1() -> None:
    _, y = RandomFunctions().in_plain_units().draw(torch.Generator().manual_seed(0), 8, 50)
    torch.testing.assert_close(y.std(1, unbiased=False), torch.ones(8, 1))


def test_shots_of_a_step_are_alike_and_spread_over_the_octaves() -> None:
    config = FunctionConfig(min_shot=1, max_shot=64, queries=3, tasks=2, logarithmic=True, beyond=0.5)
    sampler = FunctionSampler(RandomFunctions(), config, 0, Purpose.validation)
    drawn = [sampler.episodes(step) for step in range(40)]
    counts = [one.support_x.shape[1] for one in drawn]
    assert min(counts) == 1
    assert max(counts) > 32
    assert sum(count <= 8 for count in counts) > 10
    assert all(bool(one.support_mask.all()) and one.query_x.shape[1] == 3 for one in drawn)
    assert drawn[0].support_x.equal(sampler.episodes(0).support_x)
