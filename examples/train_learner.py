"""Train a learner for vectors on the server and use it. Start a server with `make serve`, then run

python examples/train_learner.py
"""

import asyncio
import csv
import random
import tempfile
from pathlib import Path

from hyperserve import AsyncClient, Job

DIM, CLASSES, EXAMPLES = 8, 30, 20


def cloud(chance: random.Random) -> list[list[float]]:
    """Return points around a centre, which make one class."""
    centre = [chance.gauss(0, 2) for _ in range(DIM)]
    return [[round(chance.gauss(mean, 1), 3) for mean in centre] for _ in range(EXAMPLES)]


def show(job: Job) -> None:
    print(job.state, job.progress or "")  # noqa: T201


async def main() -> None:
    chance = random.Random(0)
    async with AsyncClient() as client:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "clouds.csv"
            with path.open("w", newline="") as file:
                rows = csv.writer(file)
                rows.writerow(["label", *(f"x{index}" for index in range(DIM))])
                for label in range(CLASSES):
                    rows.writerows([f"cloud {label}", *point] for point in cloud(chance))
            dataset = await client.datasets.upload(path, name="clouds")

        training = await client.learners.create(
            "clouds", dataset=dataset, encoder="identity", ways=(2, 5), shots=(1, 5), steps=100
        )
        await client.jobs.wait(training.job, on_progress=show)

        # Classes that were not in the training data.
        here, there = cloud(chance), cloud(chance)
        task = await client.tasks.create({"here": here[:3], "there": there[:3]}, learner="clouds")
        answer = await task.predict([*here[3:6], *there[3:6]])
        print([found.label for found in answer.predictions])  # noqa: T201

        await task.delete()
        await client.learners.delete("clouds")
        await client.datasets.delete(dataset)


asyncio.run(main())
