"""Learners, pictures and servers that the tests of the application share."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image, ImageDraw

from tests.app.learner import save_learner
from tests.app.problems import OK
from tests.app.server import Server
from tests.app.streams.bundles import bundled, pictured
from tests.app.tasks.regression import save as save_values

Png = Callable[..., bytes]


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained learners: `glyphs` takes images, `vectors` vectors of any length, `triples` of length 3; of values
    `regression` takes numbers to numbers, and `pairs` vectors of 2 to vectors of 3."""
    folder = tmp_path_factory.mktemp("zoo")
    save_learner(folder / "glyphs", "conv4", {"width": 8}, {"kind": "image"})
    save_learner(folder / "vectors", "identity", {}, {"kind": "vector"})
    save_learner(folder / "triples", "identity", {}, {"kind": "vector", "dim": 3})
    save_values(folder / "regression")
    save_values(folder / "pairs", method="bayes-linear", dim=2, target=3)
    return folder


@pytest.fixture(scope="session")
def streams(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundled streams: `digits` takes images; `blobs` (cl3), `choices` (cl2) and `heads` (cl1) vectors of 8 numbers."""
    folder = tmp_path_factory.mktemp("streams")
    bundled(folder / "blobs")
    bundled(folder / "choices", scenario="cl2")
    bundled(folder / "heads", scenario="cl1")
    pictured(folder / "digits")
    return folder


@pytest.fixture(scope="session")
def server(zoo: Path, streams: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for the whole session: tests leave it as they found it, or do not care what else it holds."""
    environment = {"HYPERSERVE_STREAMS_DIR": str(streams)}
    running = Server(tmp_path_factory.mktemp("server") / "data", zoo, environment)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def own_server(zoo: Path, tmp_path: Path) -> Iterator[Server]:
    """Not yet started, for tests that stop, kill or damage it."""
    own = Server(tmp_path / "data", zoo)
    yield own
    if hasattr(own, "process"):
        own.stop()


@pytest.fixture
def client(server: Server) -> httpx.Client:
    return server.client


@pytest.fixture(scope="session")
def png() -> Png:
    """A stroke on white; different `tilt`s are different pictures."""

    def draw(
        tilt: int = 0, *, size: int = 40, format: str = "PNG", blank: bool = False, **how: object
    ) -> bytes:
        image = Image.new("L", (size, size), 255)
        if not blank:
            ImageDraw.Draw(image).line([(4, 4 + tilt), (size - 5, size - 5 - tilt)], fill=0, width=3)
        data = io.BytesIO()
        image.save(data, format, **how)
        return data.getvalue()

    return draw


@pytest.fixture(scope="session")
def b64(png: Png) -> Callable[..., str]:
    def encode(tilt: int = 0, **how: object) -> str:
        return base64.b64encode(png(tilt, **how)).decode()

    return encode


@pytest.fixture
def task(client: httpx.Client, b64: Callable[..., str]) -> Iterator[str]:
    """Id of an image task of two classes."""
    support = {"cat": [b64(0), b64(2)], "dog": [b64(30)]}
    created = client.post("/v1/tasks", json={"learner": "glyphs", "support": support})
    assert created.status_code == 201, created.text
    yield created.json()["id"]
    client.delete(f"/v1/tasks/{created.json()['id']}")


@pytest.fixture
def nothing_stored(server: Server) -> Iterator[None]:
    """A test that leaves no trace, and a server that goes on."""

    def state() -> object:
        return server.client.get("/v1/tasks").json(), server.blobs(), server.features()

    before = state()
    yield
    assert state() == before
    body = {"support": {"a": OK, "b": OK}, "queries": OK}
    assert server.client.post("/v1/predict", json=body).status_code == 200
