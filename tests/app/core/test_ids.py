"""Ids: their form, their order, and ids made before."""

from __future__ import annotations

import itertools
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.core import ids as module
from app.core.ids import created_ms, is_id, new_id

EARLIER = "task_01jd8m6k0v5v4q2c9y7t3n1x0z"


def test_an_id_is_its_prefix_and_a_ulid_in_lower_case() -> None:
    id = new_id("task")
    assert id.startswith("task_")
    assert len(id) == len("task_") + 26
    assert id == id.lower()
    assert is_id(id, "task")
    assert not is_id(id, "ds")


def test_ids_sort_by_the_time_they_were_made() -> None:
    before = time.time_ns() // 1_000_000
    ids = []
    for _ in range(5):
        ids.append(new_id("task"))
        time.sleep(0.002)
    assert ids == sorted(ids)
    assert len(set(ids)) == 5
    assert before <= created_ms(ids[0]) <= created_ms(ids[-1]) <= time.time_ns() // 1_000_000


def test_ids_grow_whatever_the_clock_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that stands still, jumps back by a year and forward again."""
    monkeypatch.setattr(module, "_ulids", module._Ulids())
    now = time.time_ns()
    clock = [now] * 1000 + [now - 365 * 86_400 * 10**9] * 1000 + [now + 10**9] * 2 + [now] * 10
    ticks = iter(clock)
    monkeypatch.setattr("app.core.ids.time.time_ns", lambda: next(ticks))
    made = [new_id("task") for _ in clock]
    assert all(earlier < later for earlier, later in itertools.pairwise(made))
    assert all(is_id(id, "task") for id in made)
    assert created_ms(made[1999]) - created_ms(made[0]) <= 1


def test_threads_share_one_order() -> None:
    with ThreadPoolExecutor(8) as threads:
        made = [
            id for some in threads.map(lambda _: [new_id("x") for _ in range(500)], range(8)) for id in some
        ]
    assert len(set(made)) == len(made)


def test_ids_of_one_millisecond_cannot_be_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ulids", module._Ulids())
    monkeypatch.setattr("app.core.ids.time.time_ns", lambda: 10**18)
    made = [module._ulids.next() for _ in range(200)]
    steps = {int(later) - int(earlier) for earlier, later in itertools.pairwise(made)}
    assert len(steps) == 199
    assert max(steps) > 2**56


def test_ids_made_before_stay_valid() -> None:
    assert is_id(EARLIER, "task")
    assert created_ms(EARLIER) == 1732235185179


@pytest.mark.parametrize(
    "text", [EARLIER.upper(), EARLIER[:-1], EARLIER + "0", "task_" + "i" * 26, "task_8" + "0" * 25, ""]
)
def test_other_texts_are_no_ids(text: str) -> None:
    assert not is_id(text, "task")
