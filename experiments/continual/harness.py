"""Continual learning under one harness: every method learns the same stream tasks with the same budget.

After each stream task all those so far are asked again, with the stream task told (CL1) or not (CL2, CL3).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from experiments.continual import method_settings as methods
from experiments.continual.baselines.continual_method import Answer, ContinualMethod, Setting
from experiments.continual.records import Record, Run
from experiments.continual.task_streams import STREAMS_OF_TASKS, Source, TaskStream
from models.continual.stream_config import Scenario
from models.protocol import LearnerError

HELD_OUT = {"split-mnist": 10_000, "permuted-mnist": 10_000, "split-cifar-80": 4000}
BUDGETS: dict[str, dict[str, Any]] = {
    "split-mnist": {"hidden": (400, 400), "iterations": 2000, "lr": 1e-3, "batch": 128},
    "permuted-mnist": {"hidden": (1000, 1000), "iterations": 5000, "lr": 1e-4, "batch": 128},
    "split-cifar-80": {"target": "lenet", "hidden": (200, 200), "iterations": 2000, "lr": 1e-3, "batch": 128},
}
"""As published (1906.00695); of pictures in colour what a CPU affords, where the published target is not asked for."""
_OF_TARGET: dict[str, dict[str, Any]] = {"resnet32": {"hidden": (), "iterations": 31_250, "batch": 32}}
"""Published: 200 epochs of 5,000 pictures."""

Follow = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """One table: which stream tasks, and the budget where it is not the published one."""

    benchmark: str
    scenario: Scenario
    tasks: int | None = None
    held_out: bool = False
    budget: Mapping[str, Any] = field(default_factory=dict)
    every: int = 1
    """All stream tasks so far are asked after every so many, and after the last."""

    def stream(self, data: Source, seed: int) -> TaskStream:
        """Raises `DatasetError`. Of `data` some have been held out already where that is asked."""
        return STREAMS_OF_TASKS[self.benchmark](data, self.tasks, seed)

    def setting(self, stream: TaskStream, seed: int) -> Setting:
        """Raises `LearnerError` where widths are given that the target has not, or a rate that trains nothing."""
        usual = BUDGETS[self.benchmark]
        target = self.budget.get("target", usual.get("target", "mlp"))
        of_target = _OF_TARGET.get(target, {})
        if self.budget.get("hidden") and of_target.get("hidden") == ():
            raise LearnerError(f"target {target!r} has no fully connected layers whose widths could be given")
        if not 0 < self.budget.get("lr", 1) <= 1:
            raise LearnerError(f"a learning rate is above 0 and at most 1, not {self.budget['lr']}")
        return Setting(
            scenario=self.scenario,
            tasks=stream.tasks,
            way=stream.way,
            shape=stream.shape,
            pictures=stream.pictures,
            seed=seed,
            **{**usual, **of_target, **self.budget},
        )

    def run(self, stream: TaskStream, method: str, seed: int, hparams: Mapping[str, Any]) -> Run:
        setting = self.setting(stream, seed)
        return Run(
            benchmark=self.benchmark,
            scenario=self.scenario,
            method=method,
            seed=seed,
            tasks=stream.tasks,
            held_out=HELD_OUT[self.benchmark] if self.held_out else 0,
            iterations=setting.iterations,
            batch=setting.batch,
            lr=setting.lr,
            schedule=setting.schedule,
            target=setting.target,
            hidden=setting.hidden,
            precision=setting.precision,
            hparams=dict(hparams),
        )


def measure(
    plan: Plan, data: Source, method: str, seed: int, given: Mapping[str, Any], command: str, follow: Follow
) -> Record:
    """Trains and measures one method once. `given` are hyperparameters that are not the method's own.

    Raises `LearnerError`, `DatasetError`.
    """
    stream = plan.stream(data, seed)
    setting = plan.setting(stream, seed)
    config = methods.hparams(method, plan.benchmark, setting, given)
    learner = methods.build(method, setting, config)
    accuracy: list[tuple[float, ...]] = []
    inferred: list[tuple[float, ...]] = []
    seconds, cpu_seconds, kept = [], [], []
    for task in range(stream.tasks):
        x, y = _on(setting, *stream.train(task))
        start, computed = time.perf_counter(), time.process_time()
        learner.learn(task, x, y)
        _wait(setting)
        seconds.append(round(time.perf_counter() - start, 2))
        cpu_seconds.append(round(time.process_time() - computed, 2))
        kept.append(learner.kept_bytes)
        told = ""
        if (task + 1) % plan.every == 0 or task + 1 == stream.tasks:
            # Made anew each time: the test digits of a hundred permutations are gigabytes.
            asked = (_on(setting, *stream.test(index)) for index in range(task + 1))
            scores = [_scores(learner, plan.scenario, index, *of) for index, of in enumerate(asked)]
            accuracy.append(tuple(right for right, _ in scores))
            inferred.append(tuple(found for _, found in scores if found is not None))
            told = f"{100 * sum(accuracy[-1]) / len(accuracy[-1]):.2f} % so far, "
        follow(
            f"{plan.benchmark} {plan.scenario} {method} seed {seed}: stream task {task + 1} of {stream.tasks}, "
            f"{told}{seconds[-1]:.0f} s"
        )
    return Record(
        run=plan.run(stream, method, seed, config.model_dump(mode="json")),
        accuracy=tuple(accuracy),
        task_inference=tuple(inferred) if inferred[-1] else None,
        test_examples=tuple(len(stream.test(task)[1]) for task in range(stream.tasks)),
        seconds=tuple(seconds),
        cpu_seconds=tuple(cpu_seconds),
        kept_bytes=tuple(kept),
        threads=torch.get_num_threads(),
        device=torch.device(setting.device).type,
        command=command,
        versions={"torch": str(torch.__version__), "numpy": np.__version__},
    )


def _on(setting: Setting, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return x.to(setting.device), y.to(setting.device)


def _wait(setting: Setting) -> None:
    """A GPU is asked and not waited for: what it has still to do belongs to the seconds."""
    if torch.device(setting.device).type == "cuda":
        torch.cuda.synchronize(setting.device)


@torch.no_grad()
def _scores(
    learner: ContinualMethod, scenario: Scenario, task: int, x: torch.Tensor, y: torch.Tensor
) -> tuple[float, float | None]:
    """Share of right answers, and of stream tasks that were found. In CL3 a label is right with its stream task."""
    answer: Answer = learner.predict(x, task if scenario == "cl1" else None)
    right = answer.label == y
    if answer.task is None:
        if scenario == "cl3":
            raise LearnerError("in CL3 a label says a stream task")
        return float(right.double().mean()), None
    found = answer.task == task
    if scenario == "cl3":
        right = right & found
    return float(right.double().mean()), float(found.double().mean())
