"""The variance that a learner answers with after so many examples."""

import torch
from torch.testing import assert_close

from models.bayes.shot_noise import SHOTS, ShotNoise


def test_what_was_measured_is_answered_and_between_it_is_interpolated() -> None:
    noise = ShotNoise(2)
    assert_close(noise(torch.tensor([1.0, 10.0])), torch.ones(2, 2))
    noise.fit({1: torch.tensor([4.0, 1.0]), 10: torch.tensor([1.0, 1.0]), 100: torch.tensor([0.25, 1e-9])})
    found = noise(torch.tensor([0.0, 1.0, 10.0, 100.0, 1000.0]))
    assert_close(found[:, 0], torch.tensor([4.0, 4.0, 1.0, 0.25, 0.25]))
    assert_close(found[3:, 1], torch.full((2,), 1e-6))
    halfway = noise(torch.tensor([10**0.5]))[0, 0]
    assert 1 < halfway < 4
    assert noise.log_variance.shape == (len(SHOTS), 2)


def test_the_nearest_is_taken_beyond_what_was_measured() -> None:
    noise = ShotNoise(1)
    noise.fit({5: torch.tensor([2.0])})
    assert_close(noise(torch.tensor([1.0, 5.0, 500.0])), torch.full((3, 1), 2.0))
