"""Requests of a task: predict, change, choose among versions."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import hyperserve as hs
from tests.hyperserve.scripted import PREDICTIONS, TASK, Reply, Script, problem, scripted

VECTOR = {"vector": [1.0]}
EXAMPLE = {"id": "ex_1", "label": "cat", "kind": "image", "created_at": "2026-11-21T10:00:00Z"}
VERSION = {
    "number": 2,
    "parent": 1,
    "origin": "support",
    "current": True,
    "learner": "glyphs",
    "learner_digest": "0123456789abcdef",
    "classes": ["cat", "dog"],
    "shots": {"cat": 2, "dog": 1},
    "created_at": "2026-11-21T10:00:00Z",
}
STORED = PREDICTIONS | {"predictions": [PREDICTIONS["predictions"][0] | {"id": "pred_1"}]}  # type: ignore[index]


@pytest.fixture
def server() -> Iterator[Script]:
    with scripted(Reply(200, TASK, {"ETag": '"7"'})) as script:
        yield script


@pytest.fixture
def client(server: Script) -> Iterator[hs.Client]:
    with hs.Client(server.url) as made:
        yield made


@pytest.fixture
def task(client: hs.Client, server: Script) -> hs.Task:
    found = client.tasks.get("task_1")
    server.requests.clear()
    server.replies[:] = [Reply(200, TASK | {"version": 2}, {"ETag": '"8"'})]
    return found


def last(server: Script) -> tuple[str, str, object]:
    request = server.requests[-1]
    return request.method, request.path.removeprefix("/v1/tasks/task_1"), request.body


def test_a_change_gives_the_new_version_and_leaves_the_old(task: hs.Task, server: Script) -> None:
    fresh = task.add({"cat": [[1]], "owl": [[1]]})
    assert (task.version, fresh.version) == (1, 2)
    assert last(server) == ("POST", "/support", {"support": {"cat": [VECTOR], "owl": [VECTOR]}})
    fresh.relabel("ex_1", "dog")
    assert last(server) == ("PATCH", "/support/ex_1", {"label": "dog"})
    fresh.remove(hs.Example.model_validate(EXAMPLE))
    assert last(server) == ("DELETE", "/support/ex_1", None)


def test_a_change_may_wait_for_its_promotion(task: hs.Task, server: Script) -> None:
    task.add([([1], "cat")], promote=False)
    task.relabel("ex_1", "dog", promote=False)
    task.remove("ex_1", promote=False)
    assert [request.path.partition("?")[2] for request in server.requests] == ["promote=false"] * 3


def test_a_version_is_promoted_by_number_or_as_found(task: hs.Task, server: Script) -> None:
    task.promote(1)
    assert last(server) == ("PUT", "/current", {"version": 1})
    task.promote(hs.Version.model_validate(VERSION))
    assert last(server)[2] == {"version": 2}


def test_a_task_is_renamed_and_loses_its_name(task: hs.Task, server: Script) -> None:
    task.rename("pets")
    assert last(server) == ("PATCH", "", {"name": "pets"})
    task.rename(None, if_unchanged=True)
    assert last(server)[2] == {"name": None}
    assert server.requests[-1].headers["if-match"] == '"7"'


def test_changes_can_insist_on_the_task_as_it_was_read(task: hs.Task, server: Script) -> None:
    fresh = task.add({"cat": [[1]]}, if_unchanged=True)
    fresh.relabel("ex_1", "dog", if_unchanged=True)
    task.remove("ex_1", if_unchanged=True)
    task.promote(1, if_unchanged=True)
    task.promote(1)
    matches = [request.headers.get("if-match") for request in server.requests]
    assert matches == ['"7"', '"8"', '"7"', '"7"', None]
    server.replies[:] = [Reply(412, problem(412, "precondition_failed"))]
    with pytest.raises(hs.PreconditionFailedError):
        task.promote(1, if_unchanged=True)


def test_a_task_of_a_list_has_no_state_to_insist_on(client: hs.Client, server: Script) -> None:
    server.replies[:] = [Reply(body={"items": [TASK], "next_cursor": None})]
    (listed,) = client.tasks.list()
    with pytest.raises(ValueError, match=r"call refresh\(\) first"):
        listed.promote(1, if_unchanged=True)


def test_examples_and_versions_are_paged(task: hs.Task, server: Script) -> None:
    server.replies[:] = [
        Reply(body={"items": [EXAMPLE], "next_cursor": "c"}),
        Reply(body={"items": [EXAMPLE], "next_cursor": None}),
    ]
    assert [example.label for example in task.support(version=3)] == ["cat", "cat"]
    assert [last_of.path.partition("?")[2] for last_of in server.requests] == [
        "version=3&limit=200",
        "version=3&limit=200&cursor=c",
    ]
    server.replies[:] = [Reply(body={"items": [VERSION], "next_cursor": None})]
    assert [version.number for version in task.versions(limit=5)] == [2]
    assert last(server)[:2] == ("GET", "/versions?limit=5")


def test_an_older_version_can_be_asked_and_read(client: hs.Client, task: hs.Task, server: Script) -> None:
    client.tasks.get("task_1", version=1)
    assert last(server)[1] == "?version=1"
    server.replies[:] = [Reply(body=PREDICTIONS)]
    task.predict([[1]], version=1)
    assert last(server) == ("POST", "/predict?version=1", {"queries": [VECTOR]})


def test_a_stored_prediction_takes_feedback(client: hs.Client, task: hs.Task, server: Script) -> None:
    server.replies[:] = [Reply(body=STORED)]
    (found,) = task.predict([[1]], store=True).predictions
    assert last(server)[2] == {"queries": [VECTOR], "store": True}
    server.replies[:] = [Reply(201, TASK | {"version": 5})]
    assert found.feedback("owl").version == 5
    request = server.requests[-1]
    assert (request.method, request.path) == ("POST", "/v1/predictions/pred_1/feedback")
    assert request.body == {"label": "owl"}
    assert client.feedback("pred_2", "cat").id == "task_1"
    assert server.requests[-1].path == "/v1/predictions/pred_2/feedback"


def test_feedback_on_what_was_not_stored_or_has_lapsed(task: hs.Task, server: Script) -> None:
    server.replies[:] = [Reply(body=PREDICTIONS), Reply(body=STORED), Reply(410, problem(410))]
    with pytest.raises(ValueError, match="store=True"):
        task.predict([[1]]).predictions[0].feedback("cat")
    (found,) = task.predict([[1]], store=True).predictions
    with pytest.raises(hs.GoneError):
        found.feedback("cat")


def test_a_creation_is_sent_again_with_its_key(client: hs.Client, task: hs.Task, server: Script) -> None:
    """After a broken connection, perhaps only the response was lost."""
    server.requests.clear()
    server.replies[:] = [Reply(body=None), Reply(201, TASK), Reply(body=None), Reply(201, TASK)]
    client.tasks.create({"cat": [[1]], "dog": [[1]]})
    task.add({"cat": [[1]]})
    keys = [request.headers["idempotency-key"] for request in server.requests]
    assert keys[0] == keys[1] != keys[2] == keys[3]


def test_its_own_first_attempt_still_at_work_is_waited_for(client: hs.Client, server: Script) -> None:
    busy = Reply(409, problem(409, "idempotency_in_flight"), {"Retry-After": "0"})
    server.replies[:] = [Reply(body=None), *[busy] * 5, Reply(201, TASK)]
    assert client.tasks.create({"cat": [[1]], "dog": [[1]]}).id == "task_1"


@pytest.mark.parametrize("conflict", ["learner_exists", "job_finished"])
def test_other_conflicts_are_final(client: hs.Client, server: Script, conflict: str) -> None:
    server.replies[:] = [Reply(409, problem(409, conflict))]
    with pytest.raises(hs.ConflictError):
        client.tasks.create({"cat": [[1]], "dog": [[1]]})
    assert len(server.requests) == 1


def test_an_edit_is_not_made_twice(task: hs.Task, server: Script) -> None:
    server.replies[:] = [Reply(body=None)]
    for edit in (lambda: task.relabel("ex_1", "dog"), lambda: task.remove("ex_1")):
        server.requests.clear()
        with pytest.raises(hs.ConnectionFailedError):
            edit()
        assert len(server.requests) == 1
