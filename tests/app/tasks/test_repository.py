"""A deleted task takes along what is written at the same moment, and what was answered of it before."""

from __future__ import annotations

import asyncio

import httpx

from app.core.ids import new_id
from app.db.base import now
from app.db.database import Database
from app.db.tables import PredictionRow, TaskRow, VersionRow
from app.tasks import repository
from app.tasks.repository import StoredExample
from tests.app.problems import OK, problem
from tests.app.stores import store_of
from tests.app.tasks.task_client import TaskClient, feedback

VALUES = {"learner": "l", "learner_digest": "d", "seed": 1, "classes": ["a"], "shots": [1], "shape": [1]}


def version_of(task: TaskRow, number: int) -> VersionRow:
    return VersionRow(id=new_id("ver"), task_id=task.id, number=number, **VALUES)


def test_tenants_see_their_own(database_url: str) -> None:
    async def test() -> None:
        database = Database(database_url)
        own, other = store_of(database, "t"), store_of(database, "u")
        task = TaskRow(id=new_id("task"), name=None, current=1)
        version = version_of(task, 1)
        values = {"task_id": task.id, "version": 1, "label": "a", "kind": "vector", "blob": "1" * 64}
        prediction = PredictionRow(id=new_id("pred"), expires_at=now(), **values)
        async with own.write() as session:
            examples = [StoredExample(0, new_id("ex"), "a", "vector", "0" * 64)]
            await repository.add_task(session, task, version, examples)
            await repository.add_predictions(session, [prediction])
        async with own.read() as session:
            assert await repository.get_current(session, task.id) is not None
            assert len(await repository.get_examples(session, version.id)) == 1
            assert await repository.get_prediction(session, prediction.id) is not None
        async with other.read() as session:
            assert await repository.get_current(session, task.id) is None
            assert await repository.class_counts_of_tasks(session, None, 10) == []
            assert await repository.list_current(session, [task.id]) == []
            assert await repository.get_examples(session, version.id) == ()
            assert await repository.get_prediction(session, prediction.id) is None
        async with other.write() as session:
            assert await repository.remove_task(session, task.id) is None
        async with own.write() as session:
            removed = await repository.remove_task(session, task.id)
        assert removed is not None
        assert (removed.versions, removed.blobs) == ([("d", version.id)], {"0" * 64, "1" * 64})
        await database.close()

    asyncio.run(test())


def test_a_version_that_is_written_meanwhile_goes_too(database_url: str) -> None:
    """Its id and its inputs are among what must be cleared away outside the database."""

    async def test() -> None:
        database = Database(database_url)
        store = store_of(database)
        task = TaskRow(id=new_id("task"), name=None, current=1)
        first, second = version_of(task, 1), version_of(task, 2)
        async with store.write() as session:
            examples = [StoredExample(0, new_id("ex"), "a", "vector", "0" * 64)]
            await repository.add_task(session, task, first, examples)

        async def delete() -> repository.RemovedTask | None:
            async with store.write() as session:
                return await repository.remove_task(session, task.id)

        async with store.write() as session:
            await repository.lock_task(session, task.id)
            deleting = asyncio.create_task(delete())
            await asyncio.sleep(0.1)
            added = [StoredExample(1, new_id("ex"), "a", "vector", "1" * 64)]
            await repository.add_version(session, second, first, added=added)
        removed = await deleting
        assert removed is not None
        assert {id for _, id in removed.versions} == {first.id, second.id}
        assert removed.blobs == {"0" * 64, "1" * 64}
        assert await delete() is None
        await database.close()

    asyncio.run(test())


def test_answers_that_keys_repeat_are_forgotten(client: httpx.Client) -> None:
    """They hold labels and the name. Sent again, the request makes nothing and is told why."""
    support = {"a": OK, "b": OK}
    key = {"Idempotency-Key": new_id("key")}
    made = client.post("/v1/tasks", json={"support": support}, headers=key).json()["id"]
    task = TaskClient(client, made)
    (id,) = task.stored_predictions(OK[0])
    feedback(client, id, "a")
    requests = [
        ("/v1/tasks", {"support": support}, key),
        (f"{task.path}/support", {"support": {"c": OK}}, {"Idempotency-Key": new_id("key")}),
        # The second is answered by what the first has made.
        (f"/v1/predictions/{id}/feedback", {"label": "b"}, {"Idempotency-Key": new_id("key")}),
        (f"/v1/predictions/{id}/feedback", {"label": "b"}, {"Idempotency-Key": new_id("key")}),
    ]
    for path, body, headers in requests:
        assert client.post(path, json=body, headers=headers).status_code == 201
    assert client.delete(task.path).status_code == 204
    for path, body, headers in requests:
        problem(client.post(path, json=body, headers=headers), 410, "idempotency_deleted")
    assert made not in client.get("/v1/tasks").text
