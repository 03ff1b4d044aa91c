"""Requests that the client sends, and its handling of the responses."""

from collections.abc import Iterator

import pytest

from hyperserve import Client, NotFoundError, Task
from tests.hyperserve.scripted import PREDICTIONS, TASK, Reply, Script, problem, scripted

LEARNER = {
    "name": "glyphs",
    "digest": "0123456789abcdef",
    "input": {"kind": "image", "size": 28},
    "default": True,
    "method": "protonet",
    "status": "ready",
    "traits": {},
    "ways": {"min": 2, "max": None},
    "shots": {"min": 1, "max": None},
    "metrics": {},
}
VECTOR = {"vector": [1.0]}


@pytest.fixture
def server() -> Iterator[Script]:
    with scripted(Reply()) as script:
        yield script


@pytest.fixture
def client(server: Script) -> Iterator[Client]:
    with Client(server.url, api_key="secret", max_retries=0) as made:
        yield made


def task(client: Client, server: Script) -> Task:
    server.replies[:] = [Reply(201, TASK)]
    made = client.tasks.create({"cat": [[1], [1]], "dog": [[1]]})
    server.requests.clear()
    return made


def last(server: Script) -> tuple[str, str, object]:
    request = server.requests[-1]
    return request.method, request.path, request.body


def test_create_sends_only_what_was_given(client: Client, server: Script) -> None:
    server.replies[:] = [Reply(201, TASK)]
    client.tasks.create({"cat": [[1]], "dog": [[1]]})
    assert last(server) == ("POST", "/v1/tasks", {"support": {"cat": [VECTOR], "dog": [VECTOR]}})
    made = client.tasks.create([([1], "cat"), ([1], "dog")], learner="vectors", name="pets")
    pairs = [{"input": VECTOR, "label": "cat"}, {"input": VECTOR, "label": "dog"}]
    assert last(server)[2] == {"learner": "vectors", "name": "pets", "support": pairs}
    assert (made.id, made.classes, made.shots, made.created_at.year) == (
        "task_1",
        ["cat", "dog"],
        {"cat": 2, "dog": 1},
        2026,
    )


def test_a_task_is_asked_with_options(client: Client, server: Script) -> None:
    made = task(client, server)
    server.replies[:] = [Reply(body=PREDICTIONS)]
    answer = made.predict([[1]], coverage=0.95, samples=8, top=3)
    body = {"queries": [VECTOR], "coverage": 0.95, "samples": 8, "top": 3}
    assert last(server) == ("POST", "/v1/tasks/task_1/predict", body)
    assert (answer.predictions[0].label, answer.predictions[0].epistemic) == ("cat", None)
    made.predict([[1]])
    assert last(server)[2] == {"queries": [VECTOR]}


def test_predict_without_a_task(client: Client, server: Script) -> None:
    server.replies[:] = [Reply(body=PREDICTIONS | {"task": None, "version": None})]
    assert client.predict("vectors", {"cat": [[1]], "dog": [[1]]}, [[1]], top=1).task is None
    support = {"cat": [VECTOR], "dog": [VECTOR]}
    body = {"learner": "vectors", "support": support, "queries": [VECTOR], "top": 1}
    assert last(server) == ("POST", "/v1/predict", body)
    client.predict(None, {"cat": [[1]], "dog": [[1]]}, [[1]])
    assert last(server)[2] == {"support": support, "queries": [VECTOR]}


def test_refresh_tells_what_the_server_has_now(client: Client, server: Script) -> None:
    made = task(client, server)
    server.replies[:] = [Reply(body=TASK | {"version": 2})]
    fresh = made.refresh()
    assert (made.version, fresh.version) == (1, 2)
    assert last(server) == ("GET", "/v1/tasks/task_1", None)
    server.replies[:] = [Reply(body=PREDICTIONS)]
    assert len(fresh.predict([[1]]).predictions) == 1


def test_delete(client: Client, server: Script) -> None:
    made = task(client, server)
    server.replies[:] = [Reply(204, b"")]
    made.delete()
    client.tasks.delete("task_2")
    assert [(request.method, request.path) for request in server.requests] == [
        ("DELETE", "/v1/tasks/task_1"),
        ("DELETE", "/v1/tasks/task_2"),
    ]


def test_list_follows_the_pages(client: Client, server: Script) -> None:
    pages = [{"items": [TASK | {"id": f"task_{number}"}], "next_cursor": f"c{number}"} for number in (1, 2)]
    server.replies[:] = [Reply(body=page) for page in (*pages, {"items": [TASK], "next_cursor": None})]
    assert [found.id for found in client.tasks.list()] == ["task_1", "task_2", "task_1"]
    assert [request.path.partition("?")[2] for request in server.requests] == [
        "limit=200",
        "limit=200&cursor=c1",
        "limit=200&cursor=c2",
    ]


def test_list_stops_at_its_limit(client: Client, server: Script) -> None:
    server.replies[:] = [Reply(body={"items": [TASK], "next_cursor": "c"})]
    assert len(client.tasks.list(limit=2).all()) == 2
    assert [request.path.partition("?")[2] for request in server.requests] == ["limit=2", "limit=1&cursor=c"]


def test_learners(client: Client, server: Script) -> None:
    server.replies[:] = [
        Reply(body={"items": [LEARNER], "next_cursor": None}),
        Reply(body=LEARNER | {"card": "# G"}),
    ]
    assert [learner.name for learner in client.learners.list()] == ["glyphs"]
    assert client.learners.get("glyphs").card == "# G"
    assert last(server)[:2] == ("GET", "/v1/learners/glyphs")


def test_ids_cannot_leave_their_place_in_the_path(client: Client, server: Script) -> None:
    server.replies[:] = [Reply(404, problem(404))]
    with pytest.raises(NotFoundError):
        client.tasks.get("../limits?x=#y")
    assert last(server)[1] == "/v1/tasks/..%2Flimits%3Fx%3D%23y"
    with pytest.raises(ValueError, match="/v1/tasks/: an id or a name is empty"):
        client.tasks.get("")


def test_ready_is_for_polling(client: Client, server: Script) -> None:
    server.replies[:] = [Reply(503, {"status": "starting"}), Reply(200, {"status": "ok"}), Reply(body=None)]
    assert [client.ready() for _ in range(3)] == [False, True, False]


def test_the_key_and_the_version_are_sent(client: Client, server: Script) -> None:
    client.ready()
    headers = server.requests[-1].headers
    assert headers["authorization"] == "Bearer secret"
    assert headers["user-agent"].startswith("hyperserve-python/0.")


def test_the_address_comes_from_the_environment(server: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYPERSERVE_URL", server.url + "/prefix/")
    with Client() as client:
        assert client.ready()
    assert server.requests[-1].path == "/prefix/readyz"
    assert "authorization" not in server.requests[-1].headers


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://host", "http://", "http://host:port"])
def test_an_address_that_is_none_is_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="base_url"):
        Client(url)


def test_max_retries_is_not_negative() -> None:
    with pytest.raises(ValueError, match="max_retries must be 0 or more, not -1"):
        Client(max_retries=-1)
