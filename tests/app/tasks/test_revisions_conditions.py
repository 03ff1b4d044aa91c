"""ETag, If-Match and If-None-Match: nobody overwrites what they have not seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.app.problems import problem
from tests.app.tasks.task_client import CORNERS, TaskClient

MORE = {"support": {"c": [CORNERS["c"]]}}


def test_a_change_of_what_is_current_changes_the_tag(pets: TaskClient) -> None:
    seen = [pets.etag()]
    assert seen == ['"1"']
    for change in (
        lambda: pets.add({"c": [CORNERS["c"]]}),
        lambda: pets.promote(1),
        lambda: pets.client.patch(pets.path, json={"name": "x"}).json(),
        lambda: pets.relabel(pets.examples()[0]["id"], "z"),
    ):
        change()
        seen.append(pets.etag())
    assert len(set(seen)) == len(seen)


def test_what_changes_nothing_keeps_the_tag(pets: TaskClient) -> None:
    before = pets.etag()
    pets.add({"c": [CORNERS["c"]]}, params={"promote": "false"})
    pets.promote(1)
    assert pets.etag() == before


def test_a_task_is_deleted_as_it_was_seen(pets: TaskClient) -> None:
    seen = pets.etag()
    pets.add({"c": [CORNERS["c"]]})
    response = pets.client.delete(pets.path, headers={"If-Match": seen})
    problem(response, 412, "precondition_failed")
    assert pets.label(CORNERS["c"]) == "c"
    assert pets.client.delete(pets.path, headers={"If-Match": pets.etag()}).status_code == 204
    problem(pets.client.delete(pets.path, headers={"If-Match": "*"}), 404, "task_not_found")


def test_answers_to_changes_carry_the_new_tag(pets: TaskClient) -> None:
    example = f"{pets.path}/support/{pets.examples()[0]['id']}"
    for method, path, body in (
        ("PATCH", example, {"label": "z"}),
        ("POST", f"{pets.path}/support", MORE),
        ("PUT", f"{pets.path}/current", {"version": 1}),
    ):
        assert pets.client.request(method, path, json=body).headers["etag"] == pets.etag()


@pytest.mark.parametrize("form", ["{}", "W/{}", '"x", {}', "*"])
def test_unchanged(pets: TaskClient, form: str) -> None:
    response = pets.client.get(pets.path, headers={"If-None-Match": form.format(pets.etag())})
    assert (response.status_code, response.content) == (304, b"")
    assert response.headers["etag"] == pets.etag()


@pytest.mark.parametrize("header", ['"0"', '"10"', "1", "", "x"])
def test_changed(pets: TaskClient, header: str) -> None:
    assert pets.client.get(pets.path, headers={"If-None-Match": header}).status_code == 200


Change = Callable[[TaskClient, dict[str, str]], httpx.Response]
CHANGES: dict[str, Change] = {
    "add": lambda task, headers: task.client.post(f"{task.path}/support", json=MORE, headers=headers),
    "relabel": lambda task, headers: task.client.patch(
        f"{task.path}/support/{task.examples()[0]['id']}", json={"label": "z"}, headers=headers
    ),
    "remove": lambda task, headers: task.client.delete(
        f"{task.path}/support/{task.examples()[-1]['id']}", headers=headers
    ),
    "promote": lambda task, headers: task.client.put(
        f"{task.path}/current", json={"version": 1}, headers=headers
    ),
    "rename": lambda task, headers: task.client.patch(task.path, json={"name": "x"}, headers=headers),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_changes_honour_if_match(pets: TaskClient, change: Change) -> None:
    stale = pets.etag()
    pets.add({"c": [CORNERS["c"]]})
    before: Any = pets.get()
    for header in (stale, f"W/{pets.etag()}", "nonsense", ""):
        problem(change(pets, {"If-Match": header}), 412, "precondition_failed")
    assert pets.get() == before
    assert len(pets.versions()) == 2
    assert change(pets, {"If-Match": f'"x", {pets.etag()}'}).is_success


def test_any_task_matches_a_star(pets: TaskClient) -> None:
    assert CHANGES["add"](pets, {"If-Match": "*"}).is_success
