"""A task of vectors whose classes stand far apart, and what can be done with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx

from tests.app.problems import create

CORNERS = {"a": [0.0, 10.0], "b": [10.0, 0.0], "c": [-10.0, 0.0]}


@dataclass
class TaskClient:
    """`POST`, `GET` and so on of one task, checked to succeed; `client` is there for what does not."""

    client: httpx.Client
    id: str

    @property
    def path(self) -> str:
        return f"/v1/tasks/{self.id}"

    @property
    def current(self) -> int:
        number: int = self.get()["version"]
        return number

    def get(self, **params: Any) -> dict[str, Any]:
        return _ok(self.client.get(self.path, params=params), 200)

    def etag(self) -> str:
        return self.client.get(self.path).headers["etag"]

    def add(self, support: object, **how: Any) -> dict[str, Any]:
        return _ok(self.client.post(f"{self.path}/support", json={"support": support}, **how), 201)

    def examples(self, **params: Any) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = _ok(self.client.get(f"{self.path}/support", params=params), 200)[
            "items"
        ]
        return items

    def labels(self, **params: Any) -> list[str]:
        return [example["label"] for example in self.examples(**params)]

    def relabel(self, example: str, label: str, **how: Any) -> dict[str, Any]:
        return _ok(self.client.patch(f"{self.path}/support/{example}", json={"label": label}, **how), 200)

    def remove(self, example: str, **how: Any) -> dict[str, Any]:
        return _ok(self.client.delete(f"{self.path}/support/{example}", **how), 200)

    def versions(self) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = _ok(self.client.get(f"{self.path}/versions"), 200)["items"]
        return items

    def promote(self, number: int, **how: Any) -> dict[str, Any]:
        return _ok(self.client.put(f"{self.path}/current", json={"version": number}, **how), 200)

    def predict(self, *queries: object, params: Any = None, **body: Any) -> dict[str, Any]:
        body = {"queries": list(queries), **body}
        return _ok(self.client.post(f"{self.path}/predict", json=body, params=params), 200)

    def label(self, query: object, **how: Any) -> str:
        label: str = self.predict(query, **how)["predictions"][0]["label"]
        return label

    def stored_predictions(self, *queries: object) -> list[str]:
        """Return ids of stored predictions."""
        return [answer["id"] for answer in self.predict(*queries, store=True)["predictions"]]


def new_task(client: httpx.Client, support: object = None) -> TaskClient:
    """Return a task of two classes `a` and `b`, or of another support set."""
    support = support or {label: [CORNERS[label]] for label in ("a", "b")}
    return TaskClient(client, create(client, learner="vectors", support=support).json()["id"])


def feedback(client: httpx.Client, prediction: str, label: str, **how: Any) -> dict[str, Any]:
    return _ok(client.post(f"/v1/predictions/{prediction}/feedback", json={"label": label}, **how), 201)


def _ok(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    document: dict[str, Any] = response.json()
    return document
