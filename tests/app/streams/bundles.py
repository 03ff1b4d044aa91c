"""Tiny bundled streams: blobs in a space of eight numbers, three stream tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.continual.bundle import Bundle, TaskFigures, save
from models.continual.stream_config import StreamConfig, build
from models.inputs import ImageInput, VectorInput
from models.stream_protocol import StreamLearner, StreamVersion

DIM, SHOTS = 8, 40
TASKS = ("first", "second", "third")
WAYS = {"first": 2, "second": 3, "third": 2}
SPREAD = 2.5
HPARAMS: dict[str, dict[str, Any]] = {
    "analytic": {"features": {"count": 64}},
    "hypernetwork": {
        "hidden": (16,),
        "chunk": 200,
        "iterations": 60,
        "trunk": (8,),
        "batch": 32,
        "outputs": 3,
    },
}


def labels(task: str, scenario: str = "cl3") -> tuple[str, ...]:
    if scenario == "cl3":
        return tuple(f"{task}/{index}" for index in range(WAYS[task]))
    return ("no", "yes") if scenario == "cl2" else tuple(map(str, range(WAYS[task])))


def data(task: str, seed: int = 0, shots: int = SHOTS, way: int | None = None) -> tuple[Tensor, Tensor]:
    """Examples [shots × way, DIM] and their classes."""
    way = WAYS[task] if way is None else way
    y = torch.arange(way).repeat(shots)
    means = SPREAD * torch.randn(way, DIM, generator=torch.Generator().manual_seed(TASKS.index(task)))
    return means[y] + torch.randn(len(y), DIM, generator=torch.Generator().manual_seed(seed)), y


def config_of(method: str = "analytic", scenario: str = "cl3", **others: Any) -> StreamConfig:
    fields = {"input": VectorInput(dim=DIM), "shape": (DIM,), "hparams": HPARAMS[method], **others}
    return StreamConfig(method=method, scenario=scenario, **fields)


def trained(config: StreamConfig, tasks: tuple[str, ...] = TASKS) -> tuple[StreamLearner, StreamVersion]:
    learner, version = build(config), None
    for task in tasks:
        names = labels(task, config.scenario)
        version = learner.register(version, task, names, *data(task, way=len(names)))
    assert version is not None
    return learner, version


def bundled(folder: Path, method: str = "analytic", scenario: str = "cl3", **others: Any) -> Bundle:
    config = config_of(method, scenario, **others)
    _, version = trained(config)
    figures = {task: TaskFigures(examples=SHOTS * len(version.labels[task]), drift=0.0) for task in TASKS}
    return save(folder, config, version, f"# {folder.name}", tasks=figures)


def pictured(folder: Path) -> Bundle:
    """Save a stream of pictures, whose stream tasks have the names of those of the stream that ships."""
    size, generator = 28, torch.Generator().manual_seed(0)
    hparams = {"features": {"count": 16}}
    config = StreamConfig(method="analytic", input=ImageInput(), shape=(1, size, size), hparams=hparams)
    learner, version = build(config), None
    for index, task in enumerate(("0-1", "2-3")):
        x, y = torch.zeros(20, 1, size, size), torch.arange(2).repeat(10)
        x[::2, :, 4:24, 10 + 4 * index : 13 + 4 * index] = 1
        x[1::2, :, 10 + 4 * index : 13 + 4 * index, 4:24] = 1
        x += 0.1 * torch.rand(x.shape, generator=generator)
        version = learner.register(version, task, (str(2 * index), str(2 * index + 1)), x, y)
    assert version is not None
    return save(folder, config, version, f"# {folder.name}")
