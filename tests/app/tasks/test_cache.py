"""What is kept of tasks in the process: bounded, of the right tenant, and never older than what was heard."""

from __future__ import annotations

import pytest

from app.core.version_cache import OWN_WEIGHT
from app.tasks.cache import Head, Heads


def head(task: str, ways: int = 2, tenant: str = "t", revision: int = 1) -> Head:
    return Head(tenant, task, f"ver_{task}", 1, "l", "d", 1, tuple(map(str, range(ways))), (1,), revision)


def put(heads: Heads, made: Head) -> None:
    with heads.reading(made.task) as reading:
        heads.put(made, reading)


def test_the_least_recently_used_leave_first() -> None:
    heads = Heads(capacity=3 * (OWN_WEIGHT + 2))
    for task in ("a", "b", "c"):
        put(heads, head(task))
    assert heads.get("t", "a") == head("a")
    put(heads, head("d"))
    assert heads.get("t", "b") is None
    assert all(heads.get("t", task) for task in ("a", "c", "d"))


def test_many_classes_weigh_more() -> None:
    heads = Heads(capacity=100)
    for task in ("a", "b"):
        put(heads, head(task))
    put(heads, head("wide", ways=80))
    assert [heads.get("t", task) is not None for task in ("a", "b", "wide")] == [False, False, True]
    put(heads, head("too wide", ways=1000))
    assert [heads.get("t", task) is not None for task in ("wide", "too wide")] == [False, False]
    put(heads, head("a"))
    assert heads.get("t", "a") is not None


def test_a_newer_one_replaces_the_old_and_never_the_other_way_round() -> None:
    heads = Heads(capacity=OWN_WEIGHT + 2)
    for revision in range(1, 5):
        put(heads, head("a", revision=revision))
        assert heads.get("t", "a") == head("a", revision=revision)
    put(heads, head("a", revision=3))
    assert heads.get("t", "a") == head("a", revision=4)
    heads.drop("a")
    heads.drop("a")
    assert heads.get("t", "a") is None


def test_tenants_see_their_own() -> None:
    heads = Heads()
    put(heads, head("a", tenant="t"))
    assert heads.get("u", "a") is None
    assert heads.get("t", "a") is not None


@pytest.mark.parametrize(("heard", "kept"), [(1, True), (2, True), (3, False), (float("inf"), False)])
def test_a_change_drops_what_is_older(heard: float, kept: bool) -> None:
    heads = Heads()
    put(heads, head("a", revision=2))
    heads.drop("a", heard)
    assert (heads.get("t", "a") is not None) is kept


@pytest.mark.parametrize(("heard", "kept"), [(2, True), (3, False), (float("inf"), False)])
def test_what_was_read_before_a_change_is_not_kept_after_it(heard: float, kept: bool) -> None:
    heads = Heads()
    with heads.reading("a") as late, heads.reading("a") as other:
        heads.drop("a", heard)
        heads.put(head("a", revision=2), late)
        assert (heads.get("t", "a") is not None) is kept
        assert late.gone is other.gone is (heard == float("inf"))
    with heads.reading("a") as fresh:
        heads.put(head("a", revision=3), fresh)
    assert heads.get("t", "a") == head("a", revision=3)


def test_everything_may_have_changed() -> None:
    heads = Heads(capacity=2 * (OWN_WEIGHT + 2))
    put(heads, head("a"))
    with heads.reading("b") as reading:
        heads.clear()
        heads.put(head("b"), reading)
    assert heads.get("t", "a") is heads.get("t", "b") is None
    for task in ("a", "b"):
        put(heads, head(task))
    assert all(heads.get("t", task) for task in ("a", "b"))


def test_versions_of_a_number_do_not_change() -> None:
    """They stay when another one becomes current, and go with the task."""
    heads = Heads()
    with heads.reading("a") as reading:
        heads.put(head("a", revision=3), reading)
        heads.put(head("a", revision=1), reading, 1)
    heads.drop("a", 4)
    assert heads.get("t", "a") is None
    assert heads.get("t", "a", 1) == head("a", revision=1)
    assert heads.get("u", "a", 1) is heads.get("t", "a", 2) is None
    with heads.reading("a") as reading:
        heads.drop("a")
        heads.put(head("a"), reading, 1)
    assert heads.get("t", "a", 1) is None


def test_versions_of_a_number_weigh_too() -> None:
    heads = Heads(capacity=OWN_WEIGHT + 2)
    put(heads, head("a"))
    with heads.reading("a") as reading:
        heads.put(head("a"), reading, 1)
    assert heads.get("t", "a") is None
    assert heads.get("t", "a", 1) is not None
