"""Noise is a function of (seed, class, sample), with the distribution that it claims."""

import hashlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from models.noise import _GOLDEN, _MIX_1, _MIX_2, Noise, _mix, label_key

SEED, KEYS = torch.tensor([3, 4]), torch.tensor([[11, 12, 13], [11, 14, 0]])
MASK = 2**64 - 1


def test_label_keys_are_the_first_bytes_of_sha_256() -> None:
    expected = int.from_bytes(hashlib.sha256("Hündchen".encode()).digest()[:8], "big")
    assert label_key("Hündchen") & MASK == expected
    assert -(2**63) <= label_key("cat") < 2**63


@given(st.integers(-(2**63), 2**63 - 1))
def test_the_hash_is_the_finaliser_of_splitmix(value: int) -> None:
    z = value & MASK
    z = ((z ^ (z >> 30)) * (_MIX_1 & MASK)) & MASK
    z = ((z ^ (z >> 27)) * (_MIX_2 & MASK)) & MASK
    assert int(_mix(torch.tensor(value))) & MASK == z ^ (z >> 31)


def test_its_constants_are_those_of_the_paper() -> None:
    assert [value & MASK for value in (_GOLDEN, _MIX_1, _MIX_2)] == [
        0x9E3779B97F4A7C15,
        0xBF58476D1CE4E5B9,
        0x94D049BB133111EB,
    ]


def test_draws_never_change() -> None:
    """Stored task weights keep their answers across releases: these numbers are part of the format."""
    draws = Noise(3).normal(torch.tensor([3]), torch.tensor([[11]]))
    assert_close(draws[0, 0], torch.tensor([0.846726, -0.387504, 0.180793]), atol=1e-6, rtol=0)


def test_a_draw_depends_on_its_own_seed_class_and_index_only() -> None:
    draws = Noise(4).normal(SEED, KEYS)
    assert draws.shape == (2, 3, 4)
    assert draws[:1].equal(Noise(4).normal(SEED[:1], KEYS[:1]))
    assert draws[:, [2, 0, 1]].equal(Noise(4).normal(SEED, KEYS[:, [2, 0, 1]]))
    assert draws[..., :2].equal(Noise(2).normal(SEED, KEYS))


def test_every_part_of_the_key_counts() -> None:
    draws = Noise(4).normal(SEED, KEYS)
    assert draws.unique().numel() == draws.numel()


def test_swapping_seed_and_class_is_another_draw() -> None:
    one = Noise(2).normal(torch.tensor([5]), torch.tensor([[9]]))
    assert not one.equal(Noise(2).normal(torch.tensor([9]), torch.tensor([[5]])))


@pytest.mark.parametrize("seed", [-(2**63), -1, 0, 1, 2**63 - 1])
def test_any_seed_and_class_give_finite_draws(seed: int) -> None:
    keys = torch.tensor([[-(2**63), -1, 0, 1, 2**63 - 1]])
    assert Noise(1000).normal(torch.tensor([seed]), keys).isfinite().all()


def test_draws_are_standard_normal() -> None:
    draws = Noise(500).normal(torch.arange(20), torch.arange(1, 21).expand(20, 20)).double().flatten()
    assert abs(draws.mean()) < 0.01
    assert abs(draws.var() - 1) < 0.01
    assert abs(draws.pow(4).mean() - 3) < 0.1
    shares = [(draws < z).double().mean().item() for z in (-1.96, 0.0, 1.96)]
    assert shares == pytest.approx([0.025, 0.5, 0.975], abs=0.003)


def test_streams_are_uncorrelated() -> None:
    draws = Noise(4000).normal(torch.arange(3), torch.arange(1, 4).expand(3, 3)).flatten(0, 1)
    correlation = torch.corrcoef(draws) - torch.eye(9)
    assert correlation.abs().max() < 0.07


def test_no_classes_no_draws() -> None:
    assert Noise(3).normal(torch.zeros(2).long(), torch.zeros(2, 0).long()).shape == (2, 0, 3)
