"""What a regression task refuses, and where it points: nothing is stored, and the server goes on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.app.problems import OK, create, error, post, problem
from tests.app.tasks.regression import WAVE, wave
from tests.app.tasks.task_client import TaskClient

PAIR = {"input": [0.0], "target": [1.0]}
PAIRS = [{"input": [0.0, 1.0], "target": [1.0, 2.0, 3.0]}]
LARGEST = 3.4028234663852886e38


def refused(client: httpx.Client, support: object, **fields: object) -> httpx.Response:
    return create(client, kind="regression", support=support, **fields)


@pytest.fixture
def task(client: httpx.Client) -> Iterator[TaskClient]:
    made = wave(client)
    yield made
    assert (made.current, made.get()["examples"]) == (1, len(WAVE))
    client.delete(made.path)


@pytest.fixture
def labelled(client: httpx.Client) -> Iterator[str]:
    made = create(client, learner="vectors", support={"a": OK[:1], "b": OK[1:]}).json()["id"]
    yield f"/v1/tasks/{made}"
    client.delete(f"/v1/tasks/{made}")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_not_json(client: httpx.Client, number: str) -> None:
    text = f'{{"kind": "regression", "support": [{{"input": [0], "target": [{number}]}}]}}'
    problem(post(client, text), 400, "not_json_number")


def test_a_number_that_no_document_holds(client: httpx.Client) -> None:
    text = '{"kind": "regression", "support": [{"input": [0], "target": [1e999]}]}'
    problem(post(client, text), 400, "number_out_of_range")


@pytest.mark.parametrize("number", [1e39, -1e300, 10**40])
def test_huge_targets(client: httpx.Client, number: float) -> None:
    support = [PAIR, {**PAIR, "target": [0.0, number]}]
    error(refused(client, support), 422, "not_finite", "/support/1/target", LARGEST)


@pytest.mark.parametrize("target", ["1", None, True, {}, {"vector": [1]}])
def test_no_target_at_all(client: httpx.Client, target: object) -> None:
    error(refused(client, [{**PAIR, "target": target}]), 422, "wrong_type", "/support/0/target")


@pytest.mark.parametrize("target", [["1"], [None], [True], [[1]]])
def test_no_numbers(client: httpx.Client, target: object) -> None:
    error(refused(client, [{**PAIR, "target": target}]), 422, "not_a_number", "/support/0/target")


def test_targets_of_two_lengths(client: httpx.Client) -> None:
    support = [*PAIRS, {"input": [0, 1], "target": [1.0, 2.0]}]
    error(refused(client, support, learner="pairs"), 422, "target_length", "/support/1/target", 3)


def test_an_empty_and_an_endless_target(client: httpx.Client) -> None:
    error(refused(client, [{**PAIR, "target": []}]), 422, "target_length", "/support/0/target", 1)
    limit = client.get("/v1/limits").json()["target_length"]
    long = [{**PAIR, "target": [0.0] * (limit + 1)}]
    error(refused(client, long), 422, "target_too_long", "/support/0/target", limit)


def test_a_missing_target_and_an_unknown_field(client: httpx.Client) -> None:
    errors = problem(refused(client, [{"input": [0]}, {**PAIR, "x": 1}, 7]), 422, "invalid_request")["errors"]
    found = [(one["code"], one["pointer"]) for one in errors]
    assert found == [
        ("missing", "/support/0/target"),
        ("unknown_field", "/support/1/x"),
        ("wrong_type", "/support/2"),
    ]


@pytest.mark.parametrize(
    ("support", "pointer"),
    [
        ([PAIR, {"input": [0.0], "label": "a"}], "/support/1/label"),
        ({"a": [[0.0]], "b": [[1.0]]}, "/support"),
    ],
)
def test_labels(client: httpx.Client, support: object, pointer: str) -> None:
    error(refused(client, support), 422, "wrong_task_kind", pointer)


def test_a_target_among_labels(client: httpx.Client) -> None:
    support = [{"input": [0.0], "label": "a"}, PAIR]
    error(create(client, support=support), 422, "wrong_task_kind", "/support/1/target")


def test_no_examples(client: httpx.Client) -> None:
    error(refused(client, []), 422, "empty_support", "/support", 1)
    error(refused(client, 7), 422, "wrong_type", "/support")


@pytest.mark.parametrize("kind", ["ranking", "", None, 1])
def test_an_unknown_kind(client: httpx.Client, kind: object) -> None:
    error(create(client, kind=kind, support=WAVE), 422, "bad_format", "/kind")


def test_an_unknown_kind_in_the_query_string(client: httpx.Client) -> None:
    body = {"support": WAVE}
    error(client.post("/v1/tasks?kind=ranking", json=body), 422, "bad_format", "/kind")
    twice = client.post("/v1/tasks?kind=regression", json={**body, "kind": "regression"})
    error(twice, 422, "given_twice", "/kind")
    made = client.post("/v1/tasks?kind=regression", json=body)
    assert (made.status_code, made.json()["kind"]) == (201, "regression")
    client.delete(f"/v1/tasks/{made.json()['id']}")


def test_a_learner_of_classes(client: httpx.Client) -> None:
    document = problem(refused(client, WAVE, learner="vectors"), 422, "wrong_task_kind")
    (only,) = document["errors"]
    assert only["pointer"] == "/learner"
    learners = "Learners for regression: pairs, regression."
    assert only["detail"] == f"vectors is a learner for classification, not for regression. {learners}"


def test_a_learner_of_values(client: httpx.Client) -> None:
    document = problem(
        create(client, learner="regression", support={"a": [[1]], "b": [[2]]}), 422, "wrong_task_kind"
    )
    (only,) = document["errors"]
    assert only["pointer"] == "/learner"
    expected = "regression is a learner for regression, not for classification."
    expected += " Learners for classification: triples, vectors."
    assert only["detail"] == expected


def test_a_length_that_the_learner_does_not_take(client: httpx.Client) -> None:
    document = problem(refused(client, PAIRS), 422, "target_length")
    (only,) = document["errors"]
    assert (only["pointer"], only["limit"]) == ("/support", 1)
    expected = (
        "regression takes targets of length 1, not 3. Learners that take targets of this length: pairs."
    )
    assert only["detail"] == expected


def test_an_input_of_another_length(client: httpx.Client) -> None:
    support = [{"input": [0.0, 1.0], "target": 1}]
    error(refused(client, support), 422, "vector_length", "/support/0/input", 1)


@pytest.mark.parametrize("path", ["/v1/tasks", "/v1/predict"])
def test_parts(client: httpx.Client, path: str) -> None:
    files = [("a", b"[1]"), ("b", b"[2]"), ("query", b"[1]")]
    parts = [(name, ("x", data, "application/json")) for name, data in files[: 3 if "predict" in path else 2]]
    problem(client.post(f"{path}?kind=regression", files=parts), 415, "unsupported_media_type")


def test_parts_and_pictures_to_a_task(task: TaskClient, png: Any) -> None:
    path = f"{task.path}/predict"
    problem(
        task.client.post(path, files=[("query", ("x", b"[1]", "application/json"))]),
        415,
        "unsupported_media_type",
    )
    picture = task.client.post(path, content=png(), headers={"Content-Type": "image/png"})
    problem(picture, 415, "unsupported_media_type")
    added = task.client.post(f"{task.path}/support", files=[("a", ("x", b"[1]", "application/json"))])
    problem(added, 415, "unsupported_media_type")


def test_targets_of_queries(task: TaskClient) -> None:
    def ask(targets: object) -> httpx.Response:
        return task.client.post(f"{task.path}/predict", json={"queries": [0, 1], "targets": targets})

    error(ask([1]), 422, "targets_count", "/targets", 2)
    error(ask([]), 422, "targets_count", "/targets", 2)
    error(ask(7), 422, "wrong_type", "/targets")
    error(ask([[1], [1, 2]]), 422, "target_length", "/targets/1", 1)
    error(ask([[1], "x"]), 422, "wrong_type", "/targets/1")
    error(ask([1e39, 0]), 422, "not_finite", "/targets/0", LARGEST)


def test_targets_of_queries_to_classes(client: httpx.Client, labelled: str) -> None:
    asked = client.post(f"{labelled}/predict", json={"queries": OK, "targets": [1, 2]})
    error(asked, 422, "wrong_task_kind", "/targets")


def test_additions(task: TaskClient) -> None:
    def add(support: object) -> httpx.Response:
        return task.client.post(f"{task.path}/support", json={"support": support})

    error(add([{"input": 0, "target": [1, 2]}]), 422, "target_length", "/support/0/target", 1)
    error(add([{"input": 0, "label": "a"}]), 422, "wrong_task_kind", "/support/0/label")
    error(add({"a": [[0]]}), 422, "wrong_task_kind", "/support")
    error(add([]), 422, "empty_support", "/support", 1)


def test_values_added_to_classes(client: httpx.Client, labelled: str) -> None:
    added = client.post(f"{labelled}/support", json={"support": [{"input": [0.0, 1.0], "target": 1}]})
    error(added, 422, "wrong_task_kind", "/support/0/target")


def test_edits(task: TaskClient) -> None:
    path = f"{task.path}/support/{task.examples()[0]['id']}"
    error(task.client.patch(path, json={"label": "a"}), 422, "wrong_task_kind", "/label")
    error(task.client.patch(path, json={"target": [1, 2]}), 422, "target_length", "/target", 1)
    error(task.client.patch(path, json={"target": 1, "label": "a"}), 422, "unknown_field", "/target")
    error(task.client.patch(path, json={}), 422, "missing", "/label")


def test_a_target_for_an_example_of_a_class(client: httpx.Client, labelled: str) -> None:
    example = client.get(f"{labelled}/support").json()["items"][0]["id"]
    changed = client.patch(f"{labelled}/support/{example}", json={"target": 1})
    error(changed, 422, "wrong_task_kind", "/target")


def test_the_last_example_stays(client: httpx.Client) -> None:
    task = wave(client, WAVE[:1])
    problem(client.delete(f"{task.path}/support/{task.examples()[0]['id']}"), 422, "empty_support")
    assert task.current == 1
    client.delete(task.path)


def test_feedback_of_the_other_kind(client: httpx.Client, task: TaskClient, labelled: str) -> None:
    path = f"/v1/predictions/{task.stored_predictions(1.0)[0]}/feedback"
    error(client.post(path, json={"label": "a"}), 422, "wrong_task_kind", "/label")
    error(client.post(path, json={"target": "a"}), 422, "wrong_type", "/target")
    asked = client.post(f"{labelled}/predict", json={"queries": OK[:1], "store": True}).json()
    path = f"/v1/predictions/{asked['predictions'][0]['id']}/feedback"
    error(client.post(path, json={"target": 1}), 422, "wrong_task_kind", "/target")


def test_numbers_that_overflow_the_learner(client: httpx.Client, task: TaskClient) -> None:
    """Of a query: refused, or answered with finite numbers."""
    asked = client.post(f"{task.path}/predict", json={"queries": [3e38]})
    if asked.status_code != 200:
        problem(asked, 422, "numerical_overflow")
    made = refused(client, [{"input": 3e38, "target": 3e38}])
    if made.status_code == 201:
        answer = client.post(
            f"/v1/tasks/{made.json()['id']}/predict", json={"queries": [0], "targets": [-3e38]}
        )
        assert answer.status_code in (200, 422), answer.text
        client.delete(f"/v1/tasks/{made.json()['id']}")
    else:
        assert made.status_code == 422, made.text
