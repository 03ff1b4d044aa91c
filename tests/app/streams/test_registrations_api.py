"""Requests for registrations: checked before a job is made of them, and queued in order."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.app.problems import error, problem
from tests.app.streams.stream_requests import CSV, create, register, uploaded, vectors
from tests.models.data.archives import folders, zipped

pytestmark = pytest.mark.usefixtures("points")


def test_a_job_and_a_stream_task_in_the_making(client: httpx.Client, dataset: str) -> None:
    response = register(client, "first", dataset, classes=["b", "a"], held_out=6)
    assert response.status_code == 202, response.text
    work = response.json()
    job, task = work["job"], work["task"]
    assert response.headers["location"] == f"/v1/jobs/{job['id']}"
    assert (job["kind"], job["state"], job["subject"]) == ("stream_register", "queued", "streams/points")
    assert (task["name"], task["labels"], task["state"]) == ("first", ["b", "a"], "registering")
    assert (task["examples"], task["held_out"], task["dataset"]) == (34, 6, dataset)
    assert (task["job"], task["alarm"], task["accuracy_now"]) == (job["id"], False, None)
    assert work["ahead"] == 0
    assert client.get("/v1/streams/points/tasks").json()["items"] == [task]
    assert client.get("/v1/streams/points/tasks/first").json() == task
    assert client.get("/v1/streams/points").json()["version"] is None, "nothing is published yet"


def test_a_registration_while_another_waits_says_so(client: httpx.Client, dataset: str) -> None:
    other = uploaded(client, vectors("x", "y"))
    assert register(client, "first", dataset).json()["ahead"] == 0
    second = register(client, "second", other).json()
    assert second["ahead"] == 1
    assert "1 job comes first" in second["detail"]


def test_an_upload_becomes_a_dataset(client: httpx.Client, dataset: str) -> None:
    for name, how in {
        "alone": {"content": vectors("k", "l"), "headers": CSV},
        "in-a-form": {"files": {"file": ("x.csv", vectors("m", "n"), "text/csv")}},
    }.items():
        response = client.post("/v1/streams/points/tasks", params={"name": name, "held_out": 2}, **how)  # type: ignore[arg-type]
        assert response.status_code == 202, response.text
        task = response.json()["task"]
        made = client.get(f"/v1/datasets/{task['dataset']}").json()
        assert (made["name"], made["examples"], task["held_out"]) == (f"points/{name}", 40, 2)


def test_the_label_column_of_an_upload_is_chosen(client: httpx.Client, dataset: str) -> None:
    data = b"a,b,c,d,q\n" + b"1,2,3,4,0\n5,6,7,8,1\n" * 10
    where, params = "/v1/streams/points/tasks", {"name": "t", "held_out": "2"}
    error(
        client.post(where, params=params, content=data, headers=CSV), 422, "ambiguous_label_column", "/label"
    )
    response = client.post(where, params={**params, "label": "q"}, content=data, headers=CSV)
    assert response.status_code == 202, response.text
    assert response.json()["task"]["labels"] == ["0", "1"]
    of_json = client.post(where, params={"label": "q"}, json={"name": "u", "dataset": dataset})
    error(of_json, 422, "unknown_field", "/label")


def test_a_refused_upload_leaves_no_dataset(client: httpx.Client, dataset: str) -> None:
    before = client.get("/v1/datasets").json()
    for data, headers, code in (
        (vectors("a", "b", dim=3), CSV, "dataset_mismatch"),
        (b"a,1,2\nb,nan,3\n", CSV, "not_finite"),
    ):
        answer = client.post("/v1/streams/points/tasks", params={"name": "t"}, content=data, headers=headers)
        problem(answer, 422, code)
    error(client.post("/v1/streams/points/tasks", content=b"x", headers=CSV), 422, "missing", "/name")
    assert client.get("/v1/datasets").json() == before
    assert client.get("/v1/streams/points/tasks").json()["items"] == []


def test_a_key_registers_once(client: httpx.Client, dataset: str) -> None:
    headers = {"Idempotency-Key": "register-1"}
    body = {"name": "first", "dataset": dataset}
    first, second = (client.post("/v1/streams/points/tasks", json=body, headers=headers) for _ in range(2))
    assert (second.status_code, second.json()) == (202, first.json())
    assert len(client.get("/v1/streams/points/tasks").json()["items"]) == 1


@pytest.mark.parametrize(
    ("body", "code", "pointer"),
    [
        ({"dataset": "ds_00000000000000000000000000"}, "unknown_dataset", "/dataset"),
        ({"dataset": "nope"}, "unknown_dataset", "/dataset"),
        ({"classes": ["a"]}, "single_class", "/classes"),
        ({"classes": []}, "single_class", "/classes"),
        ({"classes": ["a", "z"]}, "unknown_class", "/classes/1"),
        ({"classes": ["a", "b", "a"]}, "duplicate_label", "/classes/2"),
        ({"name": "Not A Slug"}, "bad_format", "/name"),
        ({"held_out": -1}, "out_of_range", "/held_out"),
        ({"held_out": 99_999}, "out_of_range", "/held_out"),
        ({"nope": 1}, "unknown_field", "/nope"),
    ],
)
def test_what_cannot_be_registered(
    client: httpx.Client, dataset: str, body: dict[str, Any], code: str, pointer: str
) -> None:
    answer = client.post("/v1/streams/points/tasks", json={"name": "t", "dataset": dataset, **body})
    (only,) = problem(answer, 422, code)["errors"]
    assert only["pointer"] == pointer
    assert client.get("/v1/streams/points/tasks").json()["items"] == []


def test_a_dataset_of_another_kind_or_length(client: httpx.Client, clean: None) -> None:
    pictures = uploaded(client, zipped(folders()).getvalue(), {"Content-Type": "application/zip"})
    error(register(client, "t", pictures), 422, "dataset_mismatch", "/dataset")
    longer = uploaded(client, vectors("a", "b", dim=5))
    error(register(client, "t", longer), 422, "dataset_mismatch", "/dataset", 4)


def test_an_empty_class_is_no_dataset(client: httpx.Client) -> None:
    data = zipped([*folders().items(), ("class-9/", b"")]).getvalue()
    answer = client.post(
        "/v1/streams/points/tasks",
        params={"name": "t"},
        content=data,
        headers={"Content-Type": "application/zip"},
    )
    problem(answer, 422, "empty_class")


def test_a_stream_task_is_registered_once(client: httpx.Client, dataset: str) -> None:
    job = register(client, "first", dataset).json()["job"]["id"]
    error(register(client, "first", dataset), 409, "stream_task_exists", "/name")
    assert client.post(f"/v1/jobs/{job}/cancel").status_code == 202
    (task,) = client.get("/v1/streams/points/tasks").json()["items"]
    assert (task["state"], task["error"]["code"]) == ("failed", "cancelled")
    assert register(client, "first", dataset).status_code == 202, "one that failed is replaced"
    (task,) = client.get("/v1/streams/points/tasks").json()["items"]
    assert task["state"] == "registering"


@pytest.mark.parametrize(
    ("scenario", "clashes", "goes"),
    [("cl1", None, ("a", "b")), ("cl2", ("x", "y"), ("b", "a")), ("cl3", ("b", "x"), ("x", "y"))],
)
def test_labels_that_clash_also_with_what_waits(
    client: httpx.Client, clean: None, scenario: str, clashes: tuple[str, ...] | None, goes: tuple[str, ...]
) -> None:
    assert create(client, "labelled", scenario=scenario).status_code == 201
    data = uploaded(client, vectors("a", "b", "x", "y"))
    assert register(client, "first", data, "labelled", classes=["a", "b"]).status_code == 202
    if clashes is not None:
        answer = register(client, "second", data, "labelled", classes=list(clashes))
        error(answer, 422, "label_clash", "/classes")
    made = register(client, "second", data, "labelled", classes=list(goes)).json()["task"]
    assert made["labels"] == (["a", "b"] if scenario == "cl2" else list(goes)), "cl2 keeps the first's order"


def test_a_dataset_stays_while_a_registration_waits(client: httpx.Client, dataset: str) -> None:
    job = register(client, "first", dataset).json()["job"]["id"]
    problem(client.delete(f"/v1/datasets/{dataset}"), 409, "dataset_in_use")
    client.post(f"/v1/jobs/{job}/cancel")
    assert client.delete(f"/v1/datasets/{dataset}").status_code == 204
    assert client.get("/v1/streams/points/tasks/first").json()["dataset"] is None


def test_what_cannot_be_forgotten(client: httpx.Client, dataset: str) -> None:
    problem(client.post("/v1/streams/points/tasks/first/forget"), 404, "stream_task_not_found")
    register(client, "first", dataset)
    problem(client.post("/v1/streams/points/tasks/first/forget"), 409, "stream_busy")


def test_what_cannot_be_rolled_back_to(client: httpx.Client, dataset: str) -> None:
    def back(**body: object) -> httpx.Response:
        return client.post("/v1/streams/points/rollback", json=body)

    error(back(version=1), 404, "stream_version_not_found", "/version")
    error(back(version=0), 422, "out_of_range", "/version", 1)
    error(back(version="1"), 422, "wrong_type", "/version")
    register(client, "first", dataset)
    problem(back(version=1), 409, "stream_busy")


def test_deleting_a_stream_cancels_its_jobs(client: httpx.Client, dataset: str) -> None:
    jobs = [register(client, "first", dataset).json()["job"]["id"]]
    jobs.append(register(client, "second", uploaded(client, vectors("x", "y"))).json()["job"]["id"])
    assert client.delete("/v1/streams/points").status_code == 204
    assert [client.get(f"/v1/jobs/{job}").json()["state"] for job in jobs] == ["cancelled"] * 2
