"""Scaling of serving, as ratios within one run: python -m benchmarks.serving [--json FILE]

Protocol: one process, one torch thread, decoded inputs of random numbers, support sets of 5 classes with one example
each, one query per request. Contenders of a ratio are interleaved, and medians over turns are reported. The loop over
tasks calls the same learner, also with folded BatchNorm, without an engine. `--clock cpu` counts the CPU time of both
threads of this process, which busy neighbours disturb less than the wall clock.
"""

from __future__ import annotations

import asyncio
import json
import platform
import statistics
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from time import perf_counter, process_time
from typing import Annotated

import numpy as np
import torch
import typer
from jaxtyping import Float32
from rich.console import Console
from rich.progress import track
from rich.table import Table

from app.serving.engine import Engine
from app.serving.engine_types import SupportSet
from app.serving.packing import PackedWeights
from app.serving.served_models import ServedLearner
from models.artifact import Artifact, load
from models.noise import Noise
from models.protocol import TaskWeights
from models.weights import nbytes

Images = Float32[np.ndarray, "n *input"]
AsyncContender = Callable[[], Awaitable[float]]
"""Runs once and returns the seconds per request."""

WAY, SAMPLES = 5, 32
CLIENTS = 256
ZOO = Path(__file__).parents[1] / "models" / "zoo"
REPORT = Console()


class Clock(StrEnum):
    wall = "wall"
    cpu = "cpu"


CLOCKS = {Clock.wall: perf_counter, Clock.cpu: process_time}


@dataclass(frozen=True)
class Measurement:
    """A line of the report. `value` is in `unit`; a ratio above 1 means that the first one named is better."""

    learner: str
    measure: str
    value: float
    unit: str
    n: int


class Bench:
    """An engine with many resident tasks of one learner, and the same learner called directly."""

    def __init__(
        self, artifact: Artifact, clock: Callable[[], float], tasks: int, requests: int, turns: int
    ) -> None:
        self.artifact, self.clock = artifact, clock
        self.tasks, self.requests, self.turns = tasks, requests, turns
        self.served = ServedLearner.of(artifact, torch.device("cpu"))
        spec = artifact.config.input
        self.shape = (spec.channels, spec.size, spec.size) if spec.kind == "image" else (spec.dim or 64,)
        self.engine = Engine({artifact.name: artifact}, arena_bytes=1 << 30)
        self.query = self._inputs(1, seed=0)
        self.by_hand: list[TaskWeights] = []

    async def rows(self) -> list[Measurement]:
        self.engine.warm()
        self.engine.start()
        try:
            resident = await self._admit()
            return [resident, *await self._queries(), *await self._adapts()]
        finally:
            self.engine.close()

    async def _admit(self) -> Measurement:
        """Fill the arena with tasks. Return the ratio of arena bytes to bytes of weights."""
        name, weights = (
            self.artifact.name,
            (await self.engine.adapt(self.artifact.name, self._support(0))).weights,
        )
        for index in range(self.tasks):
            if index < CLIENTS:
                weights = (await self.engine.adapt(name, self._support(index))).weights
                self.by_hand.append(weights)
            self.engine.admit(str(index), name, weights)
        if not self.engine.holds("0"):
            raise RuntimeError("the tasks do not fit into the arena: reduce --tasks")
        arena_bytes = PackedWeights.of(weights, torch.device("cpu")).nbytes
        return self._row(
            "bytes per resident task ÷ bytes of its weights", arena_bytes / nbytes(weights), "×", self.tasks
        )

    async def _queries(self) -> list[Measurement]:
        times = await self._turns(
            {
                "loop": self._loop,
                "alone": lambda: self._serve(tasks=CLIENTS, clients=1),
                "batched": lambda: self._serve(tasks=CLIENTS, clients=CLIENTS),
                "one": lambda: self._serve(tasks=1, clients=CLIENTS),
                "thousand": lambda: self._serve(tasks=1000, clients=CLIENTS),
                "all": lambda: self._serve(tasks=self.tasks, clients=CLIENTS),
            }
        )
        return [
            self._row(
                f"{CLIENTS} tasks: batched over tasks vs a loop over tasks", times["loop"] / times["batched"]
            ),
            self._row(f"{CLIENTS} tasks: {CLIENTS} clients vs one client", times["alone"] / times["batched"]),
            self._row("1,000 interleaved tasks vs 1 task", times["one"] / times["thousand"]),
            self._row(f"{self.tasks:,} interleaved tasks vs 1 task", times["one"] / times["all"]),
            self._row("queries per second, batched", 1 / times["batched"], "/s"),
            self._row(
                "one client: engine on top of the learner", 1e6 * (times["alone"] - times["loop"]), "µs"
            ),
        ]

    async def _adapts(self) -> list[Measurement]:
        few = min(CLIENTS, self.requests)
        times = await self._turns(
            {"alone": lambda: self._adapt(few, 1), "batched": lambda: self._adapt(few, 64)}
        )
        return [
            self._row("adapt a support set, alone", 1e3 * times["alone"], "ms", few),
            self._row("adapt a support set, 64 at once, each", 1e3 * times["batched"], "ms", few),
        ]

    async def _turns(self, contenders: dict[str, AsyncContender]) -> dict[str, float]:
        taken: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in track(range(self.turns), description=self.artifact.name, console=REPORT, transient=True):
            for name, contender in contenders.items():
                taken[name].append(await contender())
        return {name: statistics.median(times) for name, times in taken.items()}

    async def _loop(self) -> float:
        """Predict one task after another by the learner's methods, without engine or batches."""
        learner, x = self.served.learner, torch.from_numpy(self.query)
        noise = Noise(SAMPLES) if learner.traits.stochastic else None
        began = self.clock()
        with torch.no_grad():
            for index in range(self.requests):
                learner.predict(self.by_hand[index % CLIENTS], learner.embed(x)[None], noise)
        return (self.clock() - began) / self.requests

    async def _serve(self, tasks: int, clients: int) -> float:
        """Run `clients` that each send the next request once the last is answered, each time for another task."""

        async def client(first: int) -> None:
            for request in range(first, self.requests, clients):
                key = str(request * 7919 % tasks)
                await self.engine.predict(
                    key, self.artifact.name, self.query, samples=SAMPLES, regenerate=_regenerate
                )

        began = self.clock()
        await asyncio.gather(*map(client, range(clients)))
        return (self.clock() - began) / self.requests

    async def _adapt(self, count: int, clients: int) -> float:
        supports = [self._support(index) for index in range(count)]

        async def client(first: int) -> None:
            for support in supports[first::clients]:
                await self.engine.adapt(self.artifact.name, support)

        began = self.clock()
        await asyncio.gather(*map(client, range(clients)))
        return (self.clock() - began) / count

    def _row(self, measure: str, value: float, unit: str = "×", n: int | None = None) -> Measurement:
        return Measurement(self.artifact.name, measure, value, unit, self.requests if n is None else n)

    def _support(self, seed: int) -> SupportSet:
        classes = tuple(f"class {index}" for index in range(WAY))
        return SupportSet(self._inputs(WAY, seed), np.arange(WAY), classes, seed)

    def _inputs(self, count: int, seed: int) -> Images:
        return np.random.default_rng(seed).random((count, *self.shape), dtype=np.float32)


async def _regenerate() -> TaskWeights:
    raise RuntimeError("a task was evicted from the arena: reduce --tasks")


def main(
    learners: Annotated[
        str, typer.Option(help="Names in models/zoo, separated by commas.")
    ] = "glyphs,vectors",
    tasks: Annotated[int, typer.Option(help="Resident tasks.")] = 10_000,
    requests: Annotated[int, typer.Option(help="Requests per turn of a contender.")] = 2048,
    turns: Annotated[int, typer.Option(help="Turns of each contender.")] = 7,
    clock: Annotated[Clock, typer.Option(help="Clock that times are measured by.")] = Clock.wall,
    output: Annotated[Path | None, typer.Option("--json", help="Also write the rows to this file.")] = None,
) -> None:
    torch.set_num_threads(1)
    rows: list[Measurement] = []
    for name in learners.split(","):
        rows += asyncio.run(Bench(load(ZOO / name), CLOCKS[clock], tasks, requests, turns).rows())
    table = Table(
        "learner",
        "measure",
        "value",
        "n",
        title=f"Serving, {WAY}-way 1-shot, {clock.value} time, medians of {turns} turns",
    )
    for row in rows:
        table.add_row(row.learner, row.measure, f"{row.value:,.2f} {row.unit}", f"{row.n:,}")
    REPORT.print(table)
    if output is not None:
        protocol = {
            "way": WAY,
            "shot": 1,
            "samples": SAMPLES,
            "clients": CLIENTS,
            "turns": turns,
            "clock": clock.value,
        }
        machine = {"machine": platform.machine(), "torch": torch.__version__}
        output.write_text(
            json.dumps({**protocol, **machine, "rows": [asdict(row) for row in rows]}, indent=2) + "\n"
        )


if __name__ == "__main__":
    typer.run(main)
