"""From drawings to answers: upload, train in the worker, make a task, ask it, delete everything."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.app.server import Server
from tests.models.data.archives import zipped
from tests.models.glyph_data import glyphs

JOB_SECONDS = 50
DRAWN = {"classes": 10, "examples": 8}


@pytest.fixture
def worker(zoo: Path, tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "data", zoo, {"HYPERSERVE_WORKER": "true"})
    server.start()
    yield server
    server.stop()


def drawings() -> dict[str, bytes]:
    data = glyphs(**DRAWN)
    members = {}
    for index, (ink, label) in enumerate(zip(data.inputs, data.labels, strict=True)):
        file = io.BytesIO()
        Image.fromarray(255 - ink.numpy()).save(file, "PNG")
        members[f"drawn/{data.class_names[int(label)]}/{index}.png"] = file.getvalue()
    return members


def finished(client: httpx.Client, job: str) -> dict[str, Any]:
    deadline = time.monotonic() + JOB_SECONDS
    while time.monotonic() < deadline:
        found: dict[str, Any] = client.get(f"/v1/jobs/{job}").json()
        if found["state"] not in ("queued", "running"):
            return found
        time.sleep(0.1)
    raise AssertionError(found)


def test_a_learner_of_ones_own(worker: Server) -> None:
    client, members = worker.client, drawings()
    uploaded = client.post("/v1/datasets", files={"file": ("drawn.zip", zipped(members).getvalue())})
    assert uploaded.status_code == 201, uploaded.text
    dataset = uploaded.json()["id"]
    body = {"name": "drawn", "method": "protonet", "dataset": dataset, "steps": 2}
    asked = client.post("/v1/learners", json=body | {"ways": {"min": 2, "max": 3}, "queries": 2})
    assert asked.status_code == 202, asked.text
    job = finished(client, asked.json()["job"]["id"])
    assert job["state"] == "succeeded", job
    assert (job["progress"]["step"], job["result"]["learner"]) == (2, "drawn")
    parts = [(name.split("/")[1], data) for name, data in members.items()]
    support = [part for part in parts if part[0] in ("class-0", "class-1")]
    made = client.post("/v1/tasks?learner=drawn", files=support[2:])
    assert made.status_code == 201, made.text
    task = made.json()["id"]
    answer = client.post(f"/v1/tasks/{task}/predict", files=[("query", data) for _, data in support[:2]])
    assert [prediction["label"] for prediction in answer.json()["predictions"]] == ["class-0", "class-0"]
    learner = client.get("/v1/learners/drawn").json()
    assert (learner["status"], learner["digest"]) == ("ready", job["result"]["digest"])
    assert "POST /v1/learners" in learner["card"]
    # The learner needs its dataset no more, and the task its learner.
    assert client.delete(f"/v1/datasets/{dataset}").status_code == 204
    assert client.delete("/v1/learners/drawn").status_code == 409
    client.delete(f"/v1/tasks/{task}")
    assert client.delete("/v1/learners/drawn").status_code == 204
    left = [path for path in (worker.data_dir / "blobs").rglob("*") if path.is_file()]
    assert left == []
