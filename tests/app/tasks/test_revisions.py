"""Support sets that change: each change is a version, and every version goes on answering."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from tests.app.problems import create, error
from tests.app.server import Server
from tests.app.tasks.task_client import CORNERS, TaskClient, new_task

B64 = Callable[..., str]


def test_added_examples_are_the_next_version(pets: TaskClient) -> None:
    made = pets.add({"c": [CORNERS["c"], [-9.0, 1.0]], "a": [[1.0, 9.0]]})
    assert (made["id"], made["version"]) == (pets.id, 2)
    assert (made["classes"], made["shots"]) == (["a", "b", "c"], {"a": 2, "b": 1, "c": 2})
    assert set(made["timing"]) >= {"decode", "adapt", "total"}
    assert {**made, "timing": None} == pets.get()
    assert pets.label(CORNERS["c"]) == "c"
    assert pets.labels() == ["a", "b", "c", "c", "a"]


def test_answers_are_those_of_the_whole_support_set(pets: TaskClient) -> None:
    """As if all had been sent at once: old examples by their features, new ones embedded."""
    pets.add([{"input": [-9.0, 1.0], "label": "c"}, {"input": [1.0, 9.0], "label": "a"}])
    whole = new_task(pets.client, {"a": [CORNERS["a"], [1.0, 9.0]], "b": [CORNERS["b"]], "c": [[-9.0, 1.0]]})
    query = [2.0, 3.0]
    grown, made = (task.predict(query)["predictions"][0]["probabilities"] for task in (pets, whole))
    assert grown == pytest.approx(made, abs=1e-6)
    pets.client.delete(whole.path)


def test_images_in_parts(client: httpx.Client, task: str, png: Callable[..., bytes], b64: B64) -> None:
    """Only new images are embedded, and the answers are those of a task made of all of them."""
    made = client.post(f"/v1/tasks/{task}/support?promote=true", files=[("dog", png(28)), ("cow", png(12))])
    assert made.status_code == 201, made.text
    assert made.json()["shots"] == {"cat": 2, "dog": 2, "cow": 1}
    support = {"cat": [b64(0), b64(2)], "dog": [b64(30), b64(28)], "cow": [b64(12)]}
    whole = create(client, learner="glyphs", support=support).json()["id"]
    found = [
        client.post(f"/v1/tasks/{id}/predict", json={"queries": [b64(9)]}).json()["predictions"][0]
        for id in (task, whole)
    ]
    assert found[0]["probabilities"] == pytest.approx(found[1]["probabilities"], abs=1e-5)
    client.delete(f"/v1/tasks/{whole}")


def test_relabelled_example_is_another_example(pets: TaskClient) -> None:
    pets.add({"c": [[1.0, 8.0], [-9.0, 0.0]]})
    wrong = pets.examples()[2]
    made = pets.relabel(wrong["id"], "a")
    assert (made["version"], made["shots"]) == (3, {"a": 2, "b": 1, "c": 1})
    assert pets.labels() == ["a", "b", "a", "c"]
    assert wrong["id"] not in {example["id"] for example in pets.examples()}
    assert pets.examples(version=2)[2] == wrong
    assert pets.label([1.0, 8.0]) == "a"


def test_a_cursor_of_another_version(pets: TaskClient) -> None:
    """The page would hold examples that the version does not have."""
    pets.add({"c": [[1.0, 1.0]]})
    support = f"{pets.path}/support"
    cursor = pets.client.get(f"{support}?limit=1").json()["next_cursor"]
    error(pets.client.get(support, params={"cursor": cursor, "version": 1}), 422, "bad_cursor", "/cursor")
    page = pets.client.get(support, params={"cursor": cursor, "version": 2})
    assert [example["label"] for example in page.json()["items"]] == ["b", "c"]


def test_relabelled_to_what_it_is(pets: TaskClient) -> None:
    """No version: sent again and again it would make any number of them."""
    example = pets.examples()[0]
    assert pets.relabel(example["id"], example["label"])["version"] == 1
    assert (pets.examples()[0], len(pets.versions())) == (example, 1)


def test_relabelled_to_a_new_class(pets: TaskClient) -> None:
    pets.add({"a": [[-9.0, 0.0]]})
    made = pets.relabel(pets.examples()[2]["id"], "cafe\u0301")
    assert made["classes"] == ["a", "b", "caf\u00e9"]
    assert pets.label([-9.0, 0.0]) == "caf\u00e9"


def test_a_class_goes_with_its_last_example(pets: TaskClient) -> None:
    pets.add({"c": [CORNERS["c"]]})
    first, *_ = pets.examples()
    made = pets.remove(first["id"])
    assert (made["version"], made["classes"], made["shots"]) == (3, ["b", "c"], {"b": 1, "c": 1})
    assert pets.label(CORNERS["c"]) == "c"
    assert pets.labels(version=2) == ["a", "b", "c"]


def test_versions_are_listed_with_their_origins(pets: TaskClient) -> None:
    pets.add({"c": [CORNERS["c"]]})
    pets.remove(pets.examples()[0]["id"])
    pets.promote(2)
    listed = pets.versions()
    assert [(one["number"], one["parent"], one["origin"], one["current"]) for one in listed] == [
        (3, 2, "edited", False),
        (2, 1, "support", True),
        (1, None, "created", False),
    ]
    assert [one["classes"] for one in listed] == [["b", "c"], ["a", "b", "c"], ["a", "b"]]
    assert {one["learner"] for one in listed} == {"vectors"}


def test_pages_of_versions(pets: TaskClient) -> None:
    for _ in range(3):
        pets.add({"a": [CORNERS["a"]]})
    seen, cursor = [], None
    while True:
        params = {"limit": 3} | ({"cursor": cursor} if cursor else {})
        page = pets.client.get(f"{pets.path}/versions", params=params).json()
        seen += [one["number"] for one in page["items"]]
        if not (cursor := page["next_cursor"]):
            break
        pets.add({"a": [CORNERS["a"]]})
    assert seen == [4, 3, 2, 1]


def test_pages_of_examples_stay_with_their_version(pets: TaskClient) -> None:
    pets.add({"c": [CORNERS["c"]] * 3})
    first = pets.client.get(f"{pets.path}/support?limit=2").json()
    pets.remove(pets.examples()[0]["id"])
    second = pets.client.get(
        f"{pets.path}/support", params={"limit": 200, "cursor": first["next_cursor"]}
    ).json()
    assert [one["label"] for one in first["items"] + second["items"]] == ["a", "b", "c", "c", "c"]
    assert second["next_cursor"] is None


def test_promoted_and_rolled_back(pets: TaskClient) -> None:
    pets.add({"c": [CORNERS["c"]]})
    back = pets.promote(1)
    assert (back["version"], back["classes"]) == (1, ["a", "b"])
    assert pets.predict(CORNERS["c"])["version"] == 1
    assert pets.promote(2)["version"] == 2
    assert pets.label(CORNERS["c"]) == "c"
    assert len(pets.versions()) == 2, "promoting makes no version"


def test_not_promoted(pets: TaskClient) -> None:
    """It waits under its number, and what comes next is made from what is current."""
    response = pets.client.post(f"{pets.path}/support?promote=false", json={"support": {"c": [CORNERS["c"]]}})
    assert response.headers["location"] == f"{pets.path}?version=2"
    assert pets.client.get(response.headers["location"]).json()["classes"] == ["a", "b", "c"]
    assert pets.current == 1
    assert pets.label(CORNERS["c"], version=2) == "c"
    example = pets.examples()[0]["id"]
    assert pets.relabel(example, "z", params={"promote": "false"})["classes"] == ["b", "z"]
    assert pets.current == 1
    assert pets.add({"a": [CORNERS["a"]]})["version"] == 4
    assert [one["parent"] for one in pets.versions()] == [1, 1, 1, None]


def test_not_promoted_in_the_body(pets: TaskClient) -> None:
    body = {"support": {"c": [CORNERS["c"]]}, "promote": False}
    assert pets.client.post(f"{pets.path}/support", json=body).status_code == 201
    assert pets.current == 1


def test_every_version_answers(pets: TaskClient) -> None:
    """By its number, in the query string or in the body."""
    pets.add({"c": [CORNERS["c"]]})
    for how in ({"params": {"version": 1}}, {"version": 1}):
        answer = pets.predict(CORNERS["c"], **how)
        assert answer["version"] == 1
        assert set(answer["predictions"][0]["probabilities"]) == {"a", "b"}
    assert pets.predict(CORNERS["c"], version=2)["predictions"][0]["label"] == "c"
    assert (pets.get(version=1)["version"], pets.get(version=1)["classes"]) == (1, ["a", "b"])


def test_renamed(pets: TaskClient) -> None:
    for name in ("pets", None):
        assert pets.client.patch(pets.path, json={"name": name}).json()["name"] == name
        assert pets.get()["name"] == name
    assert len(pets.versions()) == 1


def test_warnings_look_at_all_examples(pets: TaskClient) -> None:
    made = pets.add({"c": [CORNERS["a"]], "b": [CORNERS["b"]]})
    assert [(one["code"], one["pointer"], one["detail"].split()[-2]) for one in made["warnings"]] == [
        ("identical_examples", "/support/c/0", "another"),
        ("identical_examples", "/support/b/0", "same"),
    ]


def test_versions_outlive_a_restart_and_a_lost_cache(own_server: Server) -> None:
    own_server.start()
    task = new_task(own_server.client)
    task.add({"c": [CORNERS["c"]]})
    task.relabel(task.examples()[0]["id"], "z")
    before = [task.predict([3.0, 1.0], version=number)["predictions"] for number in (1, 2, 3)]
    own_server.stop()
    for file in own_server.features():
        file.unlink()
    own_server.start()
    task.client = own_server.client
    assert [task.predict([3.0, 1.0], version=number)["predictions"] for number in (1, 2, 3)] == before
    assert task.add({"c": [[-9.0, 0.0]]})["shots"] == {"b": 1, "c": 2, "z": 1}


def test_deleting_purges_every_version(own_server: Server) -> None:
    own_server.start()
    task = new_task(own_server.client)
    task.add({"c": [CORNERS["c"]]})
    task.add({"c": [CORNERS["c"]]}, params={"promote": "false"})
    task.stored_predictions([5.0, 5.0])
    # The last version was made from the weights of the one before: its features were not needed.
    assert (len(own_server.blobs()), len(own_server.features())) == (4, 2)
    task.client.delete(task.path)
    assert (own_server.blobs(), own_server.features()) == ([], [])
