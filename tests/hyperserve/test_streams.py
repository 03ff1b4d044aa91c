"""`client.streams` against the real server and its worker: register, predict, roll back, forget."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

import hyperserve as hs
from hyperserve import uploads
from tests.app.server import Server
from tests.app.streams.bundles import DIM, data, labels

SECONDS = 60.0
TINY = {"features": {"count": 64}}


@pytest.fixture(scope="module")
def working(zoo: Path, streams: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Yield a server with a worker next to it."""
    environment = {"HYPERSERVE_WORKER": "true", "HYPERSERVE_STREAMS_DIR": str(streams)}
    running = Server(tmp_path_factory.mktemp("working") / "data", zoo, environment)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def live(working: Server) -> Iterator[hs.Client]:
    with hs.Client(working.url) as client:
        yield client


def examples(task: str) -> dict[str, list[list[float]]]:
    x, y = data(task)
    return {label: x[y == index].tolist() for index, label in enumerate(labels(task))}


def answered(stream: hs.Stream, task: str, **options: str | int) -> tuple[float, float]:
    """Return the shares of correct labels and of correct stream tasks."""
    x, y = data(task, seed=9, shots=10)
    found = stream.predict(x.tolist(), **options).predictions  # type: ignore[arg-type]
    names = [labels(task)[index] for index in y.tolist()]
    right = sum(one.label == name for one, name in zip(found, names, strict=True))
    return right / len(found), sum(one.task == task for one in found) / len(found)


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_the_life_of_a_stream(live: hs.Client) -> None:
    stream = live.streams.create(
        "life", method="analytic", hparams=TINY, input={"kind": "vector", "dim": DIM}
    )
    assert (stream.version, stream.bundled) == (None, False)
    first = stream.register("first", examples("first"), timeout=SECONDS)
    assert (first.state, first.labels) == ("ready", ["first/0", "first/1"])
    assert first.accuracy_registered is not None
    assert first.accuracy_registered > 0.7
    second = stream.register("second", examples("second"), held_out=10, timeout=SECONDS)
    assert (second.held_out, second.examples) == (10, 110)
    assert [one.name for one in stream.stream_tasks()] == ["first", "second"]
    assert min(answered(stream, "first") + answered(stream, "second")) > 0.8
    assert [version.number for version in stream.versions()] == [2, 1]

    back = stream.rollback(1)
    assert (back.version, back.tasks) == (1, 1)
    assert answered(stream, "first") > (0.8, 0.8)
    with pytest.raises(hs.NotFoundError, match="second"):
        stream.predict([[0.0] * DIM], task="second")
    stream.rollback(2)

    gone = stream.forget("first", timeout=SECONDS)
    assert gone.state == "forgotten"
    with pytest.raises(hs.GoneError):
        stream.predict([[0.0] * DIM], task="first")
    with pytest.raises(hs.NotFoundError):
        stream.predict([[0.0] * DIM], version=2)
    assert answered(stream, "second") > (0.8, 0.9)
    assert stream.refresh().tasks == 1
    stream.delete()
    with pytest.raises(hs.NotFoundError):
        live.streams.get("life")


def test_those_of_the_server_are_listed_and_copied(live: hs.Client) -> None:
    assert {"blobs", "digits"} <= {stream.name for stream in live.streams.list() if stream.bundled}
    mine = live.streams.create("copy", source="blobs")
    assert answered(mine, "third", top=1) > (0.8, 0.8)
    live.streams.delete(mine)


def test_the_asynchronous_client_asks_alike(working: Server) -> None:
    asyncio.run(_ask(working))


async def _ask(working: Server) -> None:
    async with hs.AsyncClient(working.url) as client:
        stream = await client.streams.get("blobs")
        one, other = await asyncio.gather(
            stream.predict([[1.0] * DIM]), stream.predict([[1.0] * DIM], task="first")
        )
        assert (one.task, other.task) == (None, "first")
        assert [task.name for task in await stream.stream_tasks()] == ["first", "second", "third"]


def test_examples_become_a_file() -> None:
    made = uploads.from_examples({"a": [[1, 2.5]], "b": [[3, 4]]})
    assert made.media_type == "text/csv"
    assert made.path.read_text() == '"label","x0","x1"\n"a",1.0,2.5\n"b",3.0,4.0\n'
    made.discard()
    assert not made.path.exists()
    with pytest.raises(ValueError, match="not both"):
        uploads.from_examples({"a": [[1.0]], "b": [b"\x89PNG"]})
    with pytest.raises(ValueError, match="class 'b' has no examples"):
        uploads.from_examples({"a": [[1.0]], "b": []})
    with pytest.raises(ValueError, match=r"class 'a\\n': The label contains a control character"):
        uploads.from_examples({"a\n": [[1.0]]})
    with pytest.raises(ValueError, match="class '1': class 1 has the same label"):
        uploads.from_examples({1: [[1.0]], "1": [[2.0]]})
