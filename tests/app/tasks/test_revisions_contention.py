"""Many change one task at once, through two processes: every change lands, and each on top of the others."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.app.pairs import Pair, on_servers, on_sqlite, seconds_until
from tests.app.tasks.task_client import CORNERS, TaskClient, feedback, new_task
from tests.servers.postgres import own_postgres
from tests.servers.redis import own_redis


@pytest.fixture(scope="module", params=["sqlite", "postgresql and redis"])
def pair(
    request: pytest.FixtureRequest, zoo: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("contention")
    if request.param == "sqlite":
        made = on_sqlite(folder, zoo)
    else:
        postgres, cache = own_postgres(), own_redis(folder)
        postgres.start()
        cache.start()
        made = on_servers(folder, zoo, postgres, cache)
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture
def pets(pair: Pair) -> tuple[TaskClient, TaskClient]:
    """One task, through each of the processes."""
    made = new_task(pair.one.client)
    return made, TaskClient(pair.other.client, made.id)


def test_examples_added_at_once_all_land(pets: tuple[TaskClient, TaskClient]) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(
            pool.map(
                lambda index: pets[index % 2].add({f"class {index}": [[float(index), 1.0]]})["version"],
                range(12),
            )
        )
    assert sorted(made) == list(range(2, 14)), "numbers are given once, without gaps"
    assert set(pets[0].get()["shots"]) == {"a", "b", *(f"class {index}" for index in range(12))}
    assert [one["parent"] for one in pets[0].versions()] == [*range(12, 0, -1), None]
    assert len(pets[0].labels()) == 14


def test_changes_of_all_kinds_at_once(pets: tuple[TaskClient, TaskClient]) -> None:
    one, other = pets
    one.add({"c": [[-10.0, float(index)] for index in range(6)]})
    moved = [example["id"] for example in one.examples() if example["label"] == "c"]
    ids = one.stored_predictions(*([float(index), 5.0] for index in range(3)))
    work = [
        *(lambda id=id: other.remove(id) for id in moved[:2]),  # type: ignore[misc]
        *(lambda id=id: one.relabel(id, "d") for id in moved[2:4]),  # type: ignore[misc]
        *(lambda id=id: feedback(other.client, id, "a") for id in ids),  # type: ignore[misc]
        *(lambda: one.add({"b": [CORNERS["b"]]}) for _ in range(2)),
    ]
    with ThreadPoolExecutor(len(work)) as pool:
        for done in [pool.submit(call) for call in work]:
            done.result()
    assert one.get()["shots"] == {"a": 4, "b": 3, "c": 2, "d": 2}
    assert one.current == 2 + len(work)


def test_one_feedback_through_both_is_one_version(pets: tuple[TaskClient, TaskClient]) -> None:
    (id,) = pets[0].stored_predictions([1.0, 1.0])
    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(lambda index: feedback(pets[index % 2].client, id, "a")["version"], range(6)))
    assert set(made) == {2}
    assert pets[0].get()["shots"] == {"a": 2, "b": 1}


def test_of_two_with_the_same_tag_one_wins(pets: tuple[TaskClient, TaskClient]) -> None:
    tag = pets[0].etag()
    with ThreadPoolExecutor(2) as pool:
        statuses = pool.map(
            lambda task: (
                task.client.post(
                    f"{task.path}/support", json={"support": {"a": [[1.0, 1.0]]}}, headers={"If-Match": tag}
                ).status_code
            ),
            pets,
        )
    assert sorted(statuses) == [201, 412]
    assert len(pets[0].versions()) == 2


def test_both_answer_by_what_is_current(pets: tuple[TaskClient, TaskClient]) -> None:
    one, other = pets
    one.add({"c": [CORNERS["c"]]})
    assert seconds_until(lambda: other.label(CORNERS["c"]) == "c") < 2
    other.promote(1)
    assert other.label(CORNERS["c"]) != "c"
    assert seconds_until(lambda: one.label(CORNERS["c"]) != "c") < 2
    assert one.label(CORNERS["c"], version=2) == other.label(CORNERS["c"], version=2) == "c"


def test_versions_of_a_deleted_task_are_gone_everywhere(pets: tuple[TaskClient, TaskClient]) -> None:
    one, other = pets
    one.add({"c": [CORNERS["c"]]})
    for task in pets:
        task.predict(CORNERS["c"], version=1)
    one.client.delete(one.path)
    body = {"queries": [CORNERS["c"]]}
    for task in (one, other):
        assert (
            seconds_until(
                lambda task=task: (  # type: ignore[misc]
                    task.client.post(f"{task.path}/predict?version=1", json=body).status_code == 404
                )
            )
            < 2
        )
