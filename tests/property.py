"""How many examples property tests draw: a quarter by default, all of them with `--hypothesis-profile full`."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

SHARE = 4
# A machine that also trains is slow by fits; time limits of single examples would fail at random.
settings.register_profile("full", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("short", settings.get_profile("full"), max_examples=100 // SHARE)


def examples(number: int) -> int:
    """Return how many to draw where `number` are all of them."""
    return number if settings.get_current_profile_name() == "full" else max(10, number // SHARE)
