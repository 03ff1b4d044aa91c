"""The cache of versions: bounded, apart for each tenant, and never older than what was announced."""

from __future__ import annotations

import pytest

from app.core.version_cache import OWN_WEIGHT, VersionCache
from app.tasks.cache import TaskVersionRef

Cache = VersionCache[TaskVersionRef]


def version(task: str, ways: int = 2, tenant: str = "t", revision: int = 1) -> TaskVersionRef:
    return TaskVersionRef(
        tenant, task, f"ver_{task}", 1, "l", "d", 1, tuple(map(str, range(ways))), (1,), revision
    )


def put(cache: Cache, made: TaskVersionRef) -> None:
    with cache.reading(made.task) as read:
        cache.put(made, read)


def test_the_least_recently_used_leave_first() -> None:
    cache = Cache(capacity=3 * (OWN_WEIGHT + 2))
    for task in ("a", "b", "c"):
        put(cache, version(task))
    assert cache.get("t", "a") == version("a")
    put(cache, version("d"))
    assert cache.get("t", "b") is None
    assert all(cache.get("t", task) for task in ("a", "c", "d"))


def test_many_classes_weigh_more() -> None:
    cache = Cache(capacity=100)
    for task in ("a", "b"):
        put(cache, version(task))
    put(cache, version("wide", ways=80))
    assert [cache.get("t", task) is not None for task in ("a", "b", "wide")] == [False, False, True]
    put(cache, version("too wide", ways=1000))
    assert [cache.get("t", task) is not None for task in ("wide", "too wide")] == [False, False]
    put(cache, version("a"))
    assert cache.get("t", "a") is not None


def test_a_newer_one_replaces_the_old_and_never_the_other_way_round() -> None:
    cache = Cache(capacity=OWN_WEIGHT + 2)
    for revision in range(1, 5):
        put(cache, version("a", revision=revision))
        assert cache.get("t", "a") == version("a", revision=revision)
    put(cache, version("a", revision=3))
    assert cache.get("t", "a") == version("a", revision=4)
    cache.drop("a")
    cache.drop("a")
    assert cache.get("t", "a") is None


def test_tenants_see_their_own() -> None:
    cache = Cache()
    put(cache, version("a", tenant="t"))
    assert cache.get("u", "a") is None
    assert cache.get("t", "a") is not None


@pytest.mark.parametrize(("announced", "cached"), [(1, True), (2, True), (3, False), (float("inf"), False)])
def test_a_change_drops_what_is_older(announced: float, cached: bool) -> None:
    cache = Cache()
    put(cache, version("a", revision=2))
    cache.drop("a", announced)
    assert (cache.get("t", "a") is not None) is cached


@pytest.mark.parametrize(("announced", "cached"), [(2, True), (3, False), (float("inf"), False)])
def test_what_was_read_before_a_change_is_not_cached_after_it(announced: float, cached: bool) -> None:
    cache = Cache()
    with cache.reading("a") as late, cache.reading("a") as other:
        cache.drop("a", announced)
        cache.put(version("a", revision=2), late)
        assert (cache.get("t", "a") is not None) is cached
        assert late.gone is other.gone is (announced == float("inf"))
    with cache.reading("a") as fresh:
        cache.put(version("a", revision=3), fresh)
    assert cache.get("t", "a") == version("a", revision=3)


def test_everything_may_have_changed() -> None:
    cache = Cache(capacity=2 * (OWN_WEIGHT + 2))
    put(cache, version("a"))
    with cache.reading("b") as read:
        cache.clear()
        cache.put(version("b"), read)
    assert cache.get("t", "a") is cache.get("t", "b") is None
    for task in ("a", "b"):
        put(cache, version(task))
    assert all(cache.get("t", task) for task in ("a", "b"))


def test_versions_of_a_number_do_not_change() -> None:
    """They stay when another one becomes current, and go with the task."""
    cache = Cache()
    with cache.reading("a") as read:
        cache.put(version("a", revision=3), read)
        cache.put(version("a", revision=1), read, 1)
    cache.drop("a", 4)
    assert cache.get("t", "a") is None
    assert cache.get("t", "a", 1) == version("a", revision=1)
    assert cache.get("u", "a", 1) is cache.get("t", "a", 2) is None
    with cache.reading("a") as read:
        cache.drop("a")
        cache.put(version("a"), read, 1)
    assert cache.get("t", "a", 1) is None


def test_versions_of_a_number_weigh_too() -> None:
    cache = Cache(capacity=OWN_WEIGHT + 2)
    put(cache, version("a"))
    with cache.reading("a") as read:
        cache.put(version("a"), read, 1)
    assert cache.get("t", "a") is None
    assert cache.get("t", "a", 1) is not None
