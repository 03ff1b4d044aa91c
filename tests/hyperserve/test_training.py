"""From a file on disk to a served learner, trained by the server's worker."""

from __future__ import annotations

import asyncio
import csv
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import hyperserve as hs
from tests.app.server import Server

GLYPHS = {"balance", "fish", "ladder", "snail", "trident"}
CLASSES, EXAMPLES, DIM = 12, 8, 3
OPTIONS = {"method": "protonet", "encoder": "identity", "ways": (2, 3), "shots": (1, 2), "queries": 2}


@pytest.fixture(scope="module")
def clouds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    chance = random.Random(0)
    path = tmp_path_factory.mktemp("clouds") / "clouds.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["label", *(f"x{index}" for index in range(DIM))])
        for label in range(CLASSES):
            centre = [chance.gauss(0, 3) for _ in range(DIM)]
            rows.writerows([f"cloud {label}", *(chance.gauss(x, 1) for x in centre)] for _ in range(EXAMPLES))
    return path


@pytest.fixture(scope="module")
def working(zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Yield a server with a worker next to it."""
    running = Server(tmp_path_factory.mktemp("working") / "data", zoo, {"HYPERSERVE_WORKER": "true"})
    running.start()
    yield running
    running.stop()


@pytest.fixture
def live(working: Server) -> Iterator[hs.Client]:
    with hs.Client(working.url) as client:
        yield client


@pytest.fixture
def dataset(live: hs.Client, clouds: Path) -> Iterator[hs.Dataset]:
    made = live.datasets.upload(clouds, name="clouds")
    yield made
    live.datasets.delete(made)


def test_datasets_come_and_go(live: hs.Client, clouds: Path) -> None:
    made = live.datasets.upload(clouds, name="clouds")
    assert (made.name, made.kind, made.examples) == ("clouds", "vector", CLASSES * EXAMPLES)
    assert live.datasets.get(made.id) == made
    assert made in live.datasets.list().all()
    live.datasets.delete(made)
    with pytest.raises(hs.NotFoundError):
        live.datasets.get(made.id)


def test_a_folder_of_class_folders_becomes_a_dataset(live: hs.Client) -> None:
    made = live.datasets.upload(Path(__file__).parents[2] / "examples/glyphs/support")
    assert (made.format, made.kind, set(made.classes)) == ("zip", "image", GLYPHS)
    live.datasets.delete(made.id)


def test_what_is_no_dataset_is_refused_with_a_reason(live: hs.Client, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(hs.UnprocessableError) as raised:
        live.datasets.upload(tmp_path / "a.zip")
    assert raised.value.problem is not None


def test_a_learner_is_trained_watched_used_and_deleted(live: hs.Client, dataset: hs.Dataset) -> None:
    training = live.learners.create("clouds", dataset=dataset, steps=20, **OPTIONS)  # type: ignore[arg-type]
    assert (training.learner.status, training.learner.dataset) == ("training", dataset.id)
    with pytest.raises(hs.ConflictError):
        live.datasets.delete(dataset)
    told: list[hs.Job] = []
    done = live.jobs.wait(training.job, on_progress=told.append, timeout=50)
    assert done.state == told[-1].state == "succeeded"
    assert any(job.progress for job in told)
    assert [job.state for job in live.jobs.events(done)] == ["succeeded"]
    assert done.id in [job.id for job in live.jobs.list(state="succeeded")]
    learner = live.learners.get("clouds")
    assert (learner.status, learner.job) == ("ready", done.id)
    task = live.tasks.create({"near": [[0.0] * DIM], "far": [[9.0] * DIM]}, learner="clouds")
    assert task.predict([[8.0] * DIM]).predictions[0].label == "far"
    with pytest.raises(hs.ConflictError):
        live.learners.delete("clouds")
    task.delete()
    live.learners.delete("clouds")
    with pytest.raises(hs.NotFoundError):
        live.learners.get("clouds")


@pytest.mark.slow
def test_a_training_is_watched_and_cancelled_by_the_asynchronous_client(
    working: Server, dataset: hs.Dataset
) -> None:
    told: list[str] = []

    async def use() -> hs.JobFailedError:
        async with hs.AsyncClient(working.url) as client:
            training = await client.learners.create(
                "endless",
                dataset=dataset,
                steps=100_000,
                **OPTIONS,  # type: ignore[arg-type]
            )

            async def stop(job: hs.Job) -> None:
                told.append(job.state)
                if job.progress and not job.cancel_requested:
                    await client.jobs.cancel(job)

            with pytest.raises(hs.JobFailedError) as raised:
                await client.jobs.wait(training.job, on_progress=stop, timeout=50)
            with pytest.raises(hs.ConflictError):
                await client.jobs.cancel(training.job)
            await client.learners.delete("endless")
            return raised.value

    failed = asyncio.run(use())
    assert (failed.job.state, failed.code, told[-1]) == ("cancelled", "cancelled", "cancelled")


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_example_of_training_works(working: Server) -> None:
    example = Path(__file__).parents[2] / "examples/train_learner.py"
    environment = {**os.environ, "HYPERSERVE_URL": working.url}
    command = [sys.executable, str(example)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "succeeded" in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_wait_outlasts_the_server(own_server: Server, clouds: Path) -> None:
    """Kill the server while a job is followed and start it again: the lease ends, and the job still completes."""
    own_server.environment = {"HYPERSERVE_WORKER": "true", "HYPERSERVE_LEASE_SECONDS": "2"}
    own_server.start()
    with hs.Client(own_server.url) as client, ThreadPoolExecutor(1) as pool:
        dataset = client.datasets.upload(clouds)
        training = client.learners.create("clouds", dataset=dataset, steps=20, **OPTIONS)  # type: ignore[arg-type]
        told: list[hs.Job] = []
        waiting = pool.submit(client.jobs.wait, training.job, on_progress=told.append, timeout=150)
        while not any(job.state == "running" for job in told):
            time.sleep(0.05)
        own_server.stop(signal.SIGKILL)
        own_server.start()
        assert waiting.result().state == "succeeded"
        assert client.learners.get("clouds").status == "ready"
