"""Ids: their form, their order, and ids made before."""

from __future__ import annotations

import time

import pytest

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


def test_ids_made_before_stay_valid() -> None:
    assert is_id(EARLIER, "task")
    assert created_ms(EARLIER) == 1732235185179


@pytest.mark.parametrize(
    "text", [EARLIER.upper(), EARLIER[:-1], EARLIER + "0", "task_" + "i" * 26, "task_8" + "0" * 25, ""]
)
def test_other_texts_are_no_ids(text: str) -> None:
    assert not is_id(text, "task")
