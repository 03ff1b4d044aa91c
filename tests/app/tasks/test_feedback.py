"""Stored predictions, and what becomes of a query once its label is known."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import httpx
import pytest

from app.core.ids import new_id
from tests.app.problems import OK, error, problem
from tests.app.server import Server
from tests.app.tasks.task_client import CORNERS, TaskClient, feedback, new_task

QUERY = [-5.0, -5.0]


@pytest.fixture(scope="module")
def brief(zoo: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose predictions lapse after a second."""
    folder = tmp_path_factory.mktemp("brief")
    own = Server(folder / "data", zoo, {"HYPERSERVE_PREDICTION_SECONDS": "1"})  # type: ignore[arg-type]
    own.start()
    yield own
    own.stop()


def test_stored_predictions_have_ids(pets: TaskClient) -> None:
    ids = pets.stored_predictions(QUERY, QUERY)
    assert len(set(ids)) == 2
    assert all(re.fullmatch("pred_[0-9a-z]{26}", id) for id in ids)
    assert pets.predict(QUERY)["predictions"][0]["id"] is None
    in_query = pets.client.post(f"{pets.path}/predict?store=true", json={"queries": [QUERY]}).json()
    assert in_query["predictions"][0]["id"]


def test_raw_images_are_stored(client: httpx.Client, task: str, png: object) -> None:
    response = client.post(
        f"/v1/tasks/{task}/predict?store=true",
        content=png(5),  # type: ignore[operator]
        headers={"Content-Type": "image/png"},
    )
    id = response.json()["predictions"][0]["id"]
    made = feedback(client, id, "dog")
    assert made["shots"] == {"cat": 2, "dog": 2}


def test_feedback_teaches(pets: TaskClient) -> None:
    (id,) = pets.stored_predictions(QUERY)
    response = pets.client.post(f"/v1/predictions/{id}/feedback", json={"label": "c"})
    assert response.status_code == 201
    assert response.headers["location"] == pets.path
    assert response.headers["etag"] == pets.etag()
    made = response.json()
    assert (made["version"], made["classes"]) == (2, ["a", "b", "c"])
    assert pets.label(QUERY) == "c"
    assert pets.versions()[0]["origin"] == "feedback"


def test_said_again(pets: TaskClient) -> None:
    """The same label is the same version, whatever is current by then."""
    (id,) = pets.stored_predictions(QUERY)
    first = feedback(pets.client, id, "a")
    assert feedback(pets.client, id, "a")["version"] == first["version"] == 2
    pets.promote(1)
    assert feedback(pets.client, id, "a")["version"] == 2
    assert (pets.current, len(pets.versions())) == (1, 2)


def test_corrected(pets: TaskClient) -> None:
    """Another label changes that of the example, and adds none."""
    (id,) = pets.stored_predictions(QUERY)
    feedback(pets.client, id, "a")
    made = feedback(pets.client, id, "b")
    assert (made["version"], made["shots"]) == (3, {"a": 1, "b": 2})
    assert feedback(pets.client, id, "a")["shots"] == {"a": 2, "b": 1}
    assert feedback(pets.client, id, "a")["version"] == 4


def test_corrected_whatever_became_of_the_example(pets: TaskClient) -> None:
    """Relabelled by hand, or as another version has it: it is still the same query, and stands once."""
    (id,) = pets.stored_predictions(QUERY)
    feedback(pets.client, id, "a")
    pets.relabel(pets.examples()[-1]["id"], "b")
    assert feedback(pets.client, id, "c")["shots"] == {"a": 1, "b": 1, "c": 1}
    pets.promote(2)
    assert feedback(pets.client, id, "d")["shots"] == {"a": 1, "b": 1, "d": 1}


def test_said_of_an_example_that_has_the_label_by_now(pets: TaskClient) -> None:
    (id,) = pets.stored_predictions(QUERY)
    feedback(pets.client, id, "a")
    pets.relabel(pets.examples()[-1]["id"], "b")
    assert feedback(pets.client, id, "b")["shots"] == {"a": 1, "b": 2}
    assert feedback(pets.client, id, "a")["shots"] == {"a": 2, "b": 1}


def test_an_example_that_was_taken_out_comes_back(pets: TaskClient) -> None:
    (id,) = pets.stored_predictions(QUERY)
    feedback(pets.client, id, "a")
    pets.remove(pets.examples()[-1]["id"])
    assert feedback(pets.client, id, "b")["shots"] == {"a": 1, "b": 2}


def test_feedback_builds_on_what_is_current(pets: TaskClient) -> None:
    (id,) = pets.stored_predictions(QUERY)
    pets.add({"c": [CORNERS["c"]]})
    assert feedback(pets.client, id, "d")["classes"] == ["a", "b", "c", "d"]


def test_the_same_feedback_at_once_is_one_version(pets: TaskClient) -> None:
    (id,) = pets.stored_predictions(QUERY)
    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(lambda _: feedback(pets.client, id, "a")["version"], range(6)))
    assert set(made) == {2}
    assert len(pets.versions()) == 2


def test_other_feedback_at_once_all_lands(pets: TaskClient) -> None:
    ids = pets.stored_predictions(*([float(index), 1.0] for index in range(6)))
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda id: feedback(pets.client, id, "a"), ids))
    assert pets.get()["shots"] == {"a": 7, "b": 1}
    assert pets.current == 7


def test_a_key_makes_it_safe_to_send_again(pets: TaskClient) -> None:
    (id,) = pets.stored_predictions(QUERY)
    key = {"Idempotency-Key": new_id("key")}
    path = f"/v1/predictions/{id}/feedback"
    first = pets.client.post(path, json={"label": "a"}, headers=key)
    feedback(pets.client, id, "b")
    again = pets.client.post(path, json={"label": "a"}, headers=key)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json()["version"] == first.json()["version"] == 2
    assert pets.current == 3


def test_refused(pets: TaskClient) -> None:
    (id,) = pets.stored_predictions(QUERY)
    path = f"/v1/predictions/{id}/feedback"
    for other in (new_id("pred"), "pred_x", "x" * 300, id.replace("pred", "task")):
        problem(
            pets.client.post(f"/v1/predictions/{other}/feedback", json={"label": "a"}),
            404,
            "prediction_not_found",
        )
    error(pets.client.post(path, json={}), 422, "missing", "/label")
    error(pets.client.post(path, json={"label": ""}), 422, "invalid_label", "/label", 1)
    error(pets.client.post(path, json={"label": "l" * 201}), 422, "invalid_label", "/label", 200)
    error(pets.client.post(path, json={"label": 1.5}), 422, "wrong_type", "/label")
    error(pets.client.post(f"{path}?promote=false", json={"label": "a"}), 422, "unknown_field", "/promote")
    assert len(pets.versions()) == 1


def test_nothing_is_stored_of_a_support_set_asked_once(client: httpx.Client) -> None:
    body = {"support": {"a": OK, "b": OK}, "queries": OK, "store": True}
    error(client.post("/v1/predict", json=body), 422, "unknown_field", "/store")


def test_predictions_go_with_their_task(pets: TaskClient) -> None:
    other = new_task(pets.client)
    (id,) = other.stored_predictions(QUERY)
    pets.client.delete(other.path)
    problem(
        pets.client.post(f"/v1/predictions/{id}/feedback", json={"label": "a"}), 404, "prediction_not_found"
    )


def test_lapsed(brief: Server) -> None:
    """Over after its time, and still over when its row is gone; what it taught stays."""
    task = new_task(brief.client)
    taught, late = task.stored_predictions(QUERY, [7.0, 7.0])
    feedback(brief.client, taught, "c")
    time.sleep(1.05)
    path = f"/v1/predictions/{late}/feedback"
    for attempt in range(2):
        problem(brief.client.post(path, json={"label": "a"}), 410, "prediction_lapsed")
        if attempt == 0:
            with closing(sqlite3.connect(brief.data_dir / "hyperserve.db")) as connection:
                connection.execute("DELETE FROM predictions")
                connection.commit()
    assert task.label(QUERY) == "c"
