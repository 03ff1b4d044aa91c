"""The learning rate along a stream task."""

import pytest

from models.continual.two_step_training import rate_factor


def test_a_constant_rate() -> None:
    assert {rate_factor(step, 10, "constant") for step in range(11)} == {1.0}


def test_a_ramp_rises_in_the_first_tenth_and_falls_to_zero() -> None:
    factors = [rate_factor(step, 100, "ramp") for step in range(101)]
    assert factors.index(max(factors)) in (9, 10)
    assert factors[0] == pytest.approx(1 / 11)
    assert factors[55] == pytest.approx(0.5)
    assert factors[100] == 0
    assert max(factors) <= 1


def test_of_few_steps_none_is_without_effect() -> None:
    assert all(0 < rate_factor(step, 3, "ramp") <= 1 for step in range(3))
