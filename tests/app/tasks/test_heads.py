"""What is kept of tasks in the process: bounded, of the right tenant, and not for longer than it may be."""

from __future__ import annotations

from app.tasks.heads import OWN_WEIGHT, Head, Heads


def head(task: str, ways: int = 2, tenant: str = "t", number: int = 1) -> Head:
    return Head(tenant, task, f"ver_{task}", number, "l", "d", 1, tuple(map(str, range(ways))), (1,))


def test_the_least_recently_used_leave_first() -> None:
    heads = Heads(capacity=3 * (OWN_WEIGHT + 2))
    for task in ("a", "b", "c"):
        heads.put(head(task))
    assert heads.get("t", "a") == head("a")
    heads.put(head("d"))
    assert heads.get("t", "b") is None
    assert all(heads.get("t", task) for task in ("a", "c", "d"))


def test_many_classes_weigh_more() -> None:
    heads = Heads(capacity=100)
    for task in ("a", "b"):
        heads.put(head(task))
    heads.put(head("wide", ways=80))
    assert [heads.get("t", task) is not None for task in ("a", "b", "wide")] == [False, False, True]
    heads.put(head("too wide", ways=1000))
    assert [heads.get("t", task) is not None for task in ("wide", "too wide")] == [False, False]
    heads.put(head("a"))
    assert heads.get("t", "a") is not None


def test_a_new_version_replaces_the_old() -> None:
    heads = Heads(capacity=OWN_WEIGHT + 2)
    for number in range(1, 5):
        heads.put(head("a", number=number))
        assert heads.get("t", "a") == head("a", number=number)
    heads.drop("a")
    heads.drop("a")
    assert heads.get("t", "a") is None


def test_tenants_see_their_own() -> None:
    heads = Heads()
    heads.put(head("a", tenant="t"))
    assert heads.get("u", "a") is None
    assert heads.get("t", "a") is not None


def test_what_another_process_may_have_changed_is_forgotten() -> None:
    heads = Heads(seconds=-1)
    heads.put(head("a"))
    assert heads.get("t", "a") is None
