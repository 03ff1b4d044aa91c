"""Create a task, ask it, list, delete: every form of input that the wire knows."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.app.problems import OK, create, error

B64 = Callable[..., str]
Png = Callable[..., bytes]


def created(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 201, response.text
    document: dict[str, Any] = response.json()
    assert response.headers["location"] == f"/v1/tasks/{document['id']}"
    return document


def predictions(response: httpx.Response) -> list[dict[str, Any]]:
    """Checks what holds of every answer."""
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()["predictions"]
    for answer in found:
        probabilities = answer["probabilities"]
        assert answer["confidence"] == max(probabilities.values()) == probabilities[answer["label"]]
        assert answer["label"] in answer["prediction_set"]
        assert answer["entropy"] >= 0
        assert answer["epistemic"] is None, "a deterministic learner makes no number up"
    return found


def test_created_task(client: httpx.Client, b64: B64) -> None:
    support = {"cat": [b64(0), b64(2)], "dog": [b64(30)]}
    task = created(create(client, learner="glyphs", name="pets", support=support))
    assert re.fullmatch("task_[0-9a-z]{26}", task["id"])
    assert (task["name"], task["version"], task["learner"]) == ("pets", 1, "glyphs")
    assert (task["classes"], task["shots"]) == (["cat", "dog"], {"cat": 2, "dog": 1})
    assert task["warnings"] == []
    assert set(task["timing"]) >= {"decode", "queue", "embed", "adapt"}
    stored = client.get(f"/v1/tasks/{task['id']}").json()
    assert stored == {**task, "timing": None}


def test_answers(client: httpx.Client, task: str, b64: B64) -> None:
    response = client.post(f"/v1/tasks/{task}/predict", json={"queries": [b64(0), b64(30)]})
    assert [answer["label"] for answer in predictions(response)] == ["cat", "dog"]
    document = response.json()
    assert (document["task"], document["version"], document["learner"]) == (task, 1, "glyphs")
    for answer in document["predictions"]:
        assert list(answer["probabilities"]) == ["cat", "dog"]
        assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-12)


def test_forms_of_an_image(client: httpx.Client, task: str, b64: B64, png: Png) -> None:
    """Bare, named, data: URL, with white space; raw of three formats; multipart: all the same picture."""
    text = b64(7)
    wrapped = "\n".join(text[start : start + 76] for start in range(0, len(text), 76))
    queries = [text, {"image": text}, f"data:image/png;base64,{text}", {"image": wrapped}]
    address = f"/v1/tasks/{task}/predict"
    answers = predictions(client.post(address, json={"queries": queries}))
    for format in ("png", "webp"):
        image = png(7, format=format, **({"lossless": True} if format == "webp" else {}))
        answers += predictions(
            client.post(address, content=image, headers={"Content-Type": f"image/{format}"})
        )
    answers += predictions(
        client.post(address, files=[("query", png(7)), ("query", ("x.png", png(7), "image/png"))])
    )
    assert len(answers) == 8
    probabilities = [answer["probabilities"]["cat"] for answer in answers]
    assert probabilities == pytest.approx([probabilities[0]] * 8, abs=1e-5)
    jpeg = client.post(address, content=png(7, format="JPEG"), headers={"Content-Type": "image/jpeg"})
    assert len(predictions(jpeg)) == 1


@pytest.mark.parametrize(
    ("media_type", "format"),
    [
        ("image/jpg", "JPEG"),
        ("image/pjpeg", "JPEG"),
        ("image/x-png", "PNG"),
        ("IMAGE/PNG", "PNG"),
        ("image/png;", "PNG"),
        ("image/gif", "GIF"),
        ("image/bmp", "BMP"),
        ("image/x-ms-bmp", "BMP"),
        ("image/x-windows-bmp", "BMP"),
    ],
)
def test_media_types_of_a_raw_image(
    client: httpx.Client, task: str, png: Png, media_type: str, format: str
) -> None:
    headers = {"Content-Type": media_type}
    answer = client.post(f"/v1/tasks/{task}/predict", content=png(7, format=format), headers=headers)
    assert len(predictions(answer)) == 1


def test_forms_of_a_vector(client: httpx.Client) -> None:
    """Without a learner a bare array takes the default vector learner."""
    support = {"a": [[0.0, 1.0], {"vector": [0.1, 1]}], "b": [[5, -5]]}
    task = created(create(client, support=support))
    assert task["learner"] == "vectors"
    part = ("query", (None, b"[0.0, 1.0]", "application/json"))
    address = f"/v1/tasks/{task['id']}/predict"
    found = predictions(client.post(address, json={"queries": [[0, 1], {"vector": [0.0, 1.0]}]}))
    found += predictions(client.post(address, files=[part]))
    assert found[0] == found[1] == found[2]
    assert found[0]["label"] == "a"
    client.delete(f"/v1/tasks/{task['id']}")


def test_support_as_a_list_keeps_order(client: httpx.Client) -> None:
    support = [
        {"input": [1, 0], "label": "b"},
        {"input": [0, 1], "label": "a"},
        {"input": [1, 1], "label": "b"},
    ]
    task = created(create(client, support=support))
    assert (task["classes"], task["shots"]) == (["b", "a"], {"b": 2, "a": 1})
    client.delete(f"/v1/tasks/{task['id']}")


def test_support_in_parts(client: httpx.Client, png: Png) -> None:
    files = [("cat", png(0)), ("dog", png(30)), ("cat", png(2))]
    task = created(client.post("/v1/tasks?learner=glyphs&name=parts", files=files))
    assert (task["name"], task["classes"], task["shots"]) == ("parts", ["cat", "dog"], {"cat": 2, "dog": 1})
    client.delete(f"/v1/tasks/{task['id']}")


def test_class_names_in_parts(client: httpx.Client, png: Png) -> None:
    labels = ["größer", 'with "quotes"', "back\\slash", "日本", "a;b=c", "percent%25"]
    task = created(
        client.post("/v1/tasks", files=[(label, png(index)) for index, label in enumerate(labels)])
    )
    assert task["classes"] == labels
    client.delete(f"/v1/tasks/{task['id']}")


def test_labels_are_answered_in_nfc(client: httpx.Client) -> None:
    support = [
        {"input": [1, 0], "label": "cafe\u0301"},
        {"input": [0, 1], "label": "b"},
        {"input": [1, 1], "label": "caf\u00e9"},
    ]
    task = created(create(client, support=support))
    assert task["shots"] == {"caf\u00e9": 2, "b": 1}
    client.delete(f"/v1/tasks/{task['id']}")


@pytest.mark.parametrize("label", ["0", "a/b", "~", " ", "id", "__proto__", "🦜", "\u202eabc", "l" * 200])
def test_labels_that_are_allowed(client: httpx.Client, label: str) -> None:
    response = client.post("/v1/predict", json={"support": {label: OK, "other": OK}, "queries": OK})
    assert set(predictions(response)[0]["probabilities"]) == {label, "other"}


def test_ask_once(client: httpx.Client, b64: B64, png: Png) -> None:
    """Nothing is stored, and the answers are those of a task."""
    support = {"cat": [b64(0), b64(2)], "dog": [b64(30)]}
    before = client.get("/v1/tasks").json()
    once = client.post("/v1/predict", json={"learner": "glyphs", "support": support, "queries": [b64(5)]})
    assert (once.json()["task"], once.json()["version"]) == (None, None)
    assert client.get("/v1/tasks").json() == before
    files = [("cat", png(0)), ("cat", png(2)), ("dog", png(30)), ("query", png(5))]
    parts = client.post("/v1/predict?learner=glyphs", files=files)
    task = created(create(client, learner="glyphs", support=support))["id"]
    kept = client.post(f"/v1/tasks/{task}/predict", json={"queries": [b64(5)]})
    assert predictions(once) == predictions(parts)
    assert predictions(kept)[0]["probabilities"] == pytest.approx(
        predictions(once)[0]["probabilities"], abs=1e-5
    )
    client.delete(f"/v1/tasks/{task}")


def test_top(client: httpx.Client) -> None:
    """The most probable classes only, in falling order."""
    support = {str(index): [[float(index), 0.0]] for index in range(6)}
    body = {"support": support, "queries": [[3.1, 0.0]]}
    whole = predictions(client.post("/v1/predict", json=body))[0]["probabilities"]
    cut = predictions(client.post("/v1/predict", json={**body, "top": 3}))[0]["probabilities"]
    assert list(cut) == sorted(whole, key=whole.__getitem__, reverse=True)[:3]
    assert len(predictions(client.post("/v1/predict", json={**body, "top": 1000}))[0]["probabilities"]) == 6


def test_coverage_widens_prediction_sets(client: httpx.Client) -> None:
    support = {str(index): [[index / 10, 1.0]] for index in range(8)}
    sizes = []
    for coverage in (0.05, 0.5, 0.999):
        body = {"support": support, "queries": [[0.31, 1.0]], "coverage": coverage}
        sizes.append(len(predictions(client.post("/v1/predict", json=body))[0]["prediction_set"]))
    assert sizes == sorted(sizes)
    assert sizes[0] >= 1
    assert sizes[0] < sizes[-1]


def test_warnings(client: httpx.Client, b64: B64, png: Png) -> None:
    """Blank and identical examples are allowed, and worth a word."""
    blank = base64.b64encode(png(0, blank=True)).decode()
    support = {"a": [b64(0), blank, b64(0)], "b": [b64(9), b64(0)]}
    task = created(create(client, learner="glyphs", support=support))
    assert [(notice["code"], notice["pointer"]) for notice in task["warnings"]] == [
        ("blank_example", "/support/a/1"),
        ("identical_examples", "/support/a/2"),
        ("identical_examples", "/support/b/1"),
    ]
    assert [notice["detail"].split()[-2] for notice in task["warnings"][1:]] == ["same", "another"]
    client.delete(f"/v1/tasks/{task['id']}")


def blank_queries(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    warnings = answer.json()["warnings"]
    assert {notice["code"] for notice in warnings} <= {"blank_query"}
    return [notice["pointer"] for notice in warnings]


def test_blank_queries(client: httpx.Client, b64: B64, png: Png) -> None:
    """Answered, and named: in JSON, in forms, as the body; with a stored support set and with one of the request."""
    blank = png(0, blank=True)
    code = base64.b64encode(blank).decode()
    task = created(create(client, learner="glyphs", support={"a": [b64(0)], "b": [b64(9)]}))
    where = f"/v1/tasks/{task['id']}/predict"
    assert blank_queries(client.post(where, json={"queries": [b64(0), code, b64(1), code]})) == [
        "/queries/1",
        "/queries/3",
    ]
    assert blank_queries(client.post(where, json={"queries": [b64(0)]})) == []
    assert len(blank_queries(client.post(where, json={"queries": [code] * 50}))) == 20
    assert len(blank_queries(client.post(where, files=[("query", ("q.png", blank, "image/png"))]))) == 1
    assert blank_queries(client.post(where, content=blank, headers={"Content-Type": "image/png"})) == [
        "/queries/0"
    ]
    once = {"learner": "glyphs", "support": {"a": [b64(0)], "b": [b64(9)]}, "queries": [code]}
    assert blank_queries(client.post("/v1/predict", json=once)) == ["/queries/0"]
    zeros = {"support": {"a": [[1.0, 2.0]], "b": [[3.0, 1.0]]}, "queries": [[1.0, 2.0], [0.0, 0.0]]}
    assert blank_queries(client.post("/v1/predict", json=zeros)) == ["/queries/1"]
    client.delete(f"/v1/tasks/{task['id']}")


def test_zero_is_no_blank_query_to_a_function(client: httpx.Client) -> None:
    pairs = [{"input": [float(x)], "target": [float(x)]} for x in range(4)]
    body = {"learner": "regression", "kind": "regression", "support": pairs, "queries": [[0.0]]}
    assert blank_queries(client.post("/v1/predict", json=body)) == []


def test_pages(client: httpx.Client) -> None:
    """Newest first; a cursor goes on where the page ended, whatever was made meanwhile."""
    support = {"a": OK, "b": OK}
    ids = [created(create(client, support=support, name=str(index)))["id"] for index in range(5)]
    first = client.get("/v1/tasks?limit=2").json()
    between = created(create(client, support=support))["id"]
    second = client.get("/v1/tasks", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    third = client.get("/v1/tasks", params={"limit": 200, "cursor": second["next_cursor"]}).json()
    seen = [item["id"] for page in (first, second, third) for item in page["items"]]
    assert seen == sorted(seen, reverse=True)
    assert set(ids) <= set(seen)
    assert between not in seen
    assert third["next_cursor"] is None
    for task in (*ids, between):
        client.delete(f"/v1/tasks/{task}")


def test_deleted_task_is_not_found(client: httpx.Client) -> None:
    task = created(create(client, support={"a": OK, "b": OK}))["id"]
    predictions(client.post(f"/v1/tasks/{task}/predict", json={"queries": OK}))
    gone = client.delete(f"/v1/tasks/{task}")
    assert (gone.status_code, gone.content) == (204, b"")
    for method, suffix in (("GET", ""), ("DELETE", ""), ("POST", "/predict")):
        response = client.request(method, f"/v1/tasks/{task}{suffix}", json={"queries": OK})
        assert (response.status_code, response.json()["code"]) == (404, "task_not_found")


def test_large_support_set(client: httpx.Client) -> None:
    """1,000 classes of uneven size, all limits but one beside."""
    support = {
        str(index): [[float(index), float(shot)] for shot in range(1 + index % 3)] for index in range(1000)
    }
    task = created(create(client, support=support))["id"]
    response = client.post(f"/v1/tasks/{task}/predict", json={"queries": [[500.0, 0.0]] * 1024, "top": 1})
    assert len(predictions(response)) == 1024
    assert client.delete(f"/v1/tasks/{task}").status_code == 204


def test_vectors_of_the_task_bind_its_queries(client: httpx.Client) -> None:
    task = created(create(client, support={"a": OK, "b": OK}))["id"]
    response = client.post(f"/v1/tasks/{task}/predict", json={"queries": [[1.0, 2.0, 3.0]]})
    error(response, 422, "vector_length", "/queries/0", 2)
    client.delete(f"/v1/tasks/{task}")
