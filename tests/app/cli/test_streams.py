"""`hyperserve streams` against a running server."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from app.cli.root import app
from models.continual import bundle
from tests.app.server import Server
from tests.app.streams.bundles import DIM, data
from tests.app.streams.stream_requests import vectors

VECTOR = ",".join(["1.0"] * DIM)


def invoked(server: Server, *words: str, status: int = 0) -> str:
    result = CliRunner().invoke(app, ["streams", *words, "--url", server.url], env={"COLUMNS": "200"})
    assert result.exit_code == status, result.output
    return result.output


@pytest.fixture
def copied(server: Server) -> str:
    made = invoked(server, "create", "by-hand", "--from", "blobs")
    assert made == "by-hand: analytic, cl3, vector 8, 3 stream tasks\n"
    return "by-hand"


def test_streams_are_listed(server: Server) -> None:
    lines = invoked(server, "list").splitlines()
    assert any({"digits", "analytic", "cl3", "image", "28", "bundled"} <= set(line.split()) for line in lines)
    assert "digits" in {one["name"] for one in json.loads(invoked(server, "list", "--json"))}


def test_a_stream_is_made_asked_and_deleted(server: Server, copied: str, tmp_path: Path) -> None:
    try:
        assert "second/2" in invoked(server, "tasks", copied)
        x = data("second", seed=9)[0][0].tolist()
        answer = invoked(server, "predict", copied, "--vector", ",".join(map(str, x)))
        assert {"second/0", "second"} <= set(answer.split())
        told = json.loads(invoked(server, "predict", copied, "--vector", VECTOR, "--task", "first", "--json"))
        assert told["predictions"][0]["task"] == "first"
        assert "copied" in invoked(server, "versions", copied)
        assert "version 1 answers, 3 stream tasks" in invoked(server, "rollback", copied, "1")
        (tmp_path / "new.csv").write_bytes(vectors("new/a", "new/b", dim=DIM))
        asked = invoked(server, "register", copied, "fourth", str(tmp_path / "new.csv"), "--no-wait")
        assert "registering" in asked
    finally:
        assert invoked(server, "delete", copied) == "by-hand: deleted\n"
        with httpx.Client(base_url=server.url) as client:
            for dataset in client.get("/v1/datasets").json()["items"]:
                client.delete(f"/v1/datasets/{dataset['id']}")


def test_pictures_are_asked_by_their_files(server: Server, tmp_path: Path, png: object) -> None:
    (tmp_path / "drawn[bold].png").write_bytes(png(0))  # type: ignore[operator]
    assert "drawn[bold].png" in invoked(server, "predict", "digits", str(tmp_path / "drawn[bold].png"))


def test_refusals_are_one_line(server: Server) -> None:
    assert invoked(server, "tasks", "none", status=1).startswith("hyperserve: ")
    assert "ships with the server" in invoked(server, "forget", "blobs", "first", status=1)
    invoked(server, "predict", "blobs", status=2)
    invoked(server, "create", "two", "--vector", "3", "--image", "28", status=2)
    assert "--vector 'x' is not a list" in invoked(server, "predict", "blobs", "--vector", "x", status=2)
    missing = invoked(server, "predict", "digits", "no[bold].png", status=2)
    assert "no[bold].png" in missing


def test_a_stream_that_ships_is_trained(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    labels = np.arange(10).repeat(12)
    images = np.zeros((120, 28, 28), np.uint8)
    for index, label in enumerate(labels):
        images[index, 6 : 8 + label, 8:12] = images[index, 16:18, 4 : 8 + 2 * label] = 255
    images += generator.integers(0, 9, images.shape, np.uint8) * (images == 0)
    file = tmp_path / "mnist.npz"
    np.savez(file, train_image=images, train_label=labels, test_image=images, test_label=labels)
    words = [
        "streams",
        "train",
        "--data",
        str(file),
        "--method",
        "analytic",
        "--hparam",
        'features={"count": 64}',
    ]
    result = CliRunner().invoke(app, [*words, "--folder", str(tmp_path / "streams")])
    assert result.exit_code == 0, result.output
    made = bundle.load(tmp_path / "streams" / "digits")
    assert list(made.description.labels) == ["0-1", "2-3", "4-5", "6-7", "8-9"]
    assert made.version().labels["4-5"] == ("4", "5")
    assert made.description.metrics["accuracy"] > 0.8
    figures = made.description.tasks["0-1"]
    assert (figures.examples, figures.drift) == (24, 0.0)
    assert "| 8-9 | 24 |" in made.card
    assert str(file) not in made.card
