"""The analytic stream on split-MNIST, CL3: accuracy against the storage of each task.

    python -m benchmarks.gate --data mnist.npz --held-out 10000

Protocol: five stream tasks of two digits are registered one after the other, with no example stored for replay. Then
every test digit is classified without its task: P(class) = P(task) P(class | task). There is one row per number of
features; seeds draw the features, the digits stay the same, and ± is the 95 % interval over seeds. `unknown` is
measured on streams from which one task, each in turn, was forgotten; its digits have half of the weight. Make choices
with --held-out, report without it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from time import process_time
from typing import Annotated

import torch
import typer
from torch import Tensor

from models.continual.analytic import AnalyticConfig, AnalyticStream
from models.continual.fixed_features import FeatureConfig
from models.data.mnist import Digits, load
from models.evaluation.scores import MeanEstimate, auroc, calibration_error
from models.stream_protocol import StreamVersion

_TASKS, _WAY = 5, 2
_BATCH = 2000


def registered(learner: AnalyticStream, x: Tensor, y: Tensor) -> tuple[StreamVersion, list[float]]:
    """Register raw digits. Return the version and the CPU seconds of each registration."""
    version, seconds = None, []
    for task in range(_TASKS):
        mine = y // _WAY == task
        began = process_time()
        labels = tuple(str(_WAY * task + index) for index in range(_WAY))
        version = learner.register(version, f"{labels[0]}-{labels[1]}", labels, x[mine], y[mine] % _WAY)
        seconds.append(process_time() - began)
    assert version is not None
    return version, seconds


def predictions(learner: AnalyticStream, version: StreamVersion, features: Tensor) -> dict[str, Tensor]:
    """Return log probabilities of tasks and classes, and `unknown`, of every query."""
    parts = []
    for part in features.split(_BATCH):
        gate = learner.posterior(learner.gate(version), part[None])
        classes = [learner.predict(learner.weights(version, task), part[None]) for task in version.tasks]
        within = torch.stack([prediction.log_probs[0] for prediction in classes], 1)
        joint = gate.log_probs[0][..., None] + within
        assert gate.unknown is not None
        parts.append((gate.log_probs[0], within, joint.flatten(1), gate.unknown[0]))
    names = ("tasks", "within", "classes", "unknown")
    return {name: torch.cat(values) for name, *values in zip(names, *parts, strict=True)}


def measure(config: AnalyticConfig, digits: Digits, seed: int) -> dict[str, float]:
    """Return the figures of one seed."""
    learner = AnalyticStream((1, 28, 28), "cl3", config, None, seed)
    version, seconds = registered(learner, digits.train_x[:, None], digits.train_y)
    features, y = learner.embed(digits.test_x[:, None]), digits.test_y
    found = predictions(learner, version, features)
    given_task = found["within"][torch.arange(len(y)), y // _WAY]
    confidence, label = found["classes"].exp().max(1)
    row = {
        "accuracy": float((label == y).double().mean()),
        "task_inference": float((found["tasks"].argmax(1) == y // _WAY).double().mean()),
        "task_told": float((given_task.argmax(1) == y % _WAY).double().mean()),
        "ece": calibration_error(confidence, label == y),
        "cpu_seconds_per_task": sum(seconds) / _TASKS,
        "cpu_seconds_last_task": seconds[-1],
        "megabytes_per_task": _megabytes(version.per_task.values()),
        "megabytes_shared": _megabytes([version.shared]),
    }
    return row | _unknown(learner, version, features, y)


def _unknown(
    learner: AnalyticStream, version: StreamVersion, features: Tensor, y: Tensor
) -> dict[str, float]:
    areas, errors = [], []
    for index, task in enumerate(version.tasks):
        unknown = predictions(learner, learner.forget(version, task), features)["unknown"]
        foreign = y // _WAY == index
        areas.append(auroc(unknown, foreign))
        detected, false_alarms = (
            float((unknown[rows] > 0.5).double().mean()) for rows in (foreign, ~foreign)
        )
        errors.append((1 - detected + false_alarms) / 2)
    return {"unknown_auroc": sum(areas) / _TASKS, "unknown_error_at_even_odds": sum(errors) / _TASKS}


def _megabytes(parts: Collection[Mapping[str, Tensor]]) -> float:
    return sum(value.nbytes for part in parts for value in part.values()) / len(parts) / 1e6


def main(
    data: Annotated[Path, typer.Option(help="MNIST as npz, see models/data/mnist.py.")],
    counts: Annotated[str, typer.Option(help="Numbers of features, separated by commas.")] = "500,1000,1500",
    seeds: Annotated[int, typer.Option(help="Number of draws of the features.")] = 3,
    held_out: Annotated[
        int, typer.Option(help="Measure on this many last training digits; 0 measures on test digits.")
    ] = 0,
    precision: Annotated[str, typer.Option(help="Precision of the stored sums: float32 or int16.")] = "int16",
    threads: Annotated[int, typer.Option(help="torch threads.")] = 1,
) -> None:
    torch.set_num_threads(threads)
    digits = load(data)
    digits = digits.held_out(held_out) if held_out else digits
    for count in map(int, counts.split(",")):
        features = FeatureConfig(count=count)
        config = AnalyticConfig.model_validate({"features": features, "precision": precision})
        found = [measure(config, digits, seed) for seed in range(seeds)]
        typer.echo(
            json.dumps(
                {
                    "benchmark": "split-MNIST CL3, replay-free",
                    "test_digits": len(digits.test_y),
                    "held_out": bool(held_out),
                    "features": features.model_dump(),
                    "precision": precision,
                    "seeds": seeds,
                    "threads": threads,
                    **{
                        name: asdict(MeanEstimate.over(torch.tensor([row[name] for row in found])))
                        for name in found[0]
                    },
                }
            )
        )


if __name__ == "__main__":
    typer.run(main)
