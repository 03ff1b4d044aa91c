"""The harness of continual learning: every method learns the same stream tasks with the same budget.

After each stream task, all tasks so far are evaluated again, with the stream task given (CL1) or not (CL2, CL3).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from experiments.continual import method_settings as methods
from experiments.continual.baselines.continual_method import (
    ComparisonSetting,
    ContinualMethod,
    ContinualPrediction,
)
from experiments.continual.records import Record, Run
from experiments.continual.task_streams import STREAMS_OF_TASKS, Source, TaskStream
from experiments.errors import ExperimentError
from models.artifact import Artifact
from models.continual.stream_config import Scenario
from models.evaluation.scores import auroc
from models.protocol import LearnerError

HELD_OUT = {"split-mnist": 10_000, "permuted-mnist": 10_000, "split-cifar-80": 4000, "split-pairs": 0}
"""Training examples held out; 0 of split-pairs, which holds out a fifth."""
BUDGETS: dict[str, dict[str, Any]] = {
    "split-mnist": {"hidden": (400, 400), "iterations": 2000, "lr": 1e-3, "batch": 128},
    "permuted-mnist": {"hidden": (1000, 1000), "iterations": 5000, "lr": 1e-4, "batch": 128},
    "split-cifar-80": {"target": "lenet", "hidden": (200, 200), "iterations": 2000, "lr": 1e-3, "batch": 128},
    "split-pairs": {"hidden": (200, 200), "iterations": 600, "lr": 1e-3, "batch": 128, "precision": "fp32"},
}
"""Budgets as published (1906.00695); for split-CIFAR a budget that a CPU affords, unless the published target is
chosen; for split-pairs that of a stream in the service."""
UNKNOWN = 0.5
"""Probability from which on the service counts a query as unknown."""
_TARGET_BUDGETS: dict[str, dict[str, Any]] = {"resnet32": {"hidden": (), "iterations": 31_250, "batch": 32}}
"""Budgets of targets as published: 200 epochs of 5,000 images."""


@dataclass(frozen=True)
class ComparisonPlan:
    """One table: its stream tasks, and the parts of the budget that differ from the published one."""

    benchmark: str
    scenario: Scenario
    tasks: int | None = None
    held_out: bool = False
    budget: Mapping[str, Any] = field(default_factory=dict)
    encoder: Artifact | None = None
    """A learner whose frozen encoder gives the features."""
    every: int = 1
    """All stream tasks so far are evaluated after every so many, and after the last."""

    def stream(self, data: Source, seed: int) -> TaskStream:
        """Return the stream of tasks. `data` has been split already if measuring on held-out examples.

        Raise `DatasetError` if the benchmark has fewer tasks.
        """
        return STREAMS_OF_TASKS[self.benchmark](data, self.tasks, seed)

    def setting(self, stream: TaskStream, seed: int) -> ComparisonSetting:
        """Return the setting of every method. Raise `ExperimentError` if the budget does not fit the target."""
        usual = BUDGETS[self.benchmark]
        target = self.budget.get("target", usual.get("target", "mlp"))
        target_budget = _TARGET_BUDGETS.get(target, {})
        if self.budget.get("hidden") and target_budget.get("hidden") == ():
            raise ExperimentError(
                f"target {target!r} has no fully connected layers: leave out the widths of hidden layers"
            )
        if not 0 < self.budget.get("lr", 1) <= 1:
            raise ExperimentError(f"the learning rate must be above 0 and at most 1, not {self.budget['lr']}")
        return ComparisonSetting(
            scenario=self.scenario,
            tasks=stream.tasks,
            way=stream.way,
            shape=stream.shape,
            pictures=stream.pictures,
            seed=seed,
            encoder=None if self.encoder is None else self.encoder.learner.encoder,
            **{**usual, **target_budget, **self.budget},
        )

    def run(self, stream: TaskStream, method: str, seed: int, hparams: Mapping[str, Any]) -> Run:
        """Return the key of one training, by which its record is found again."""
        setting = self.setting(stream, seed)
        return Run(
            benchmark=self.benchmark,
            scenario=self.scenario,
            method=method,
            seed=seed,
            tasks=stream.tasks,
            held_out=self._held_out(stream),
            iterations=setting.iterations,
            batch=setting.batch,
            lr=setting.lr,
            schedule=setting.schedule,
            target=setting.target,
            hidden=setting.hidden,
            precision=setting.precision,
            encoder=None if self.encoder is None else self.encoder.name,
            hparams=dict(hparams),
        )

    def _held_out(self, stream: TaskStream) -> int:
        if not self.held_out:
            return 0
        count = HELD_OUT[self.benchmark]
        return count or sum(len(stream.test(task)[1]) for task in range(stream.tasks))


def measure(
    plan: ComparisonPlan,
    data: Source,
    method: str,
    seed: int,
    given: Mapping[str, Any],
    command: str,
    log: Callable[[str], None],
) -> Record:
    """Train and measure one method once. `given` are hyperparameters that replace the method's defaults.

    Progress goes to `log`. Raise `ExperimentError`, `LearnerError` or `DatasetError`.
    """
    stream = plan.stream(data, seed)
    setting = plan.setting(stream, seed)
    config = methods.hparams(method, plan.benchmark, setting, given)
    learner = methods.build(method, setting, config)
    accuracy: list[tuple[float, ...]] = []
    inferred: list[tuple[float, ...]] = []
    unknown: list[float] = []
    foreign: list[float | None] = []
    seconds, cpu_seconds, stored = [], [], []
    for task in range(stream.tasks):
        x, y = _on(setting, *stream.train(task))
        start, computed = time.perf_counter(), time.process_time()
        learner.learn(task, x, y)
        _wait(setting)
        seconds.append(round(time.perf_counter() - start, 2))
        cpu_seconds.append(round(time.process_time() - computed, 2))
        stored.append(learner.stored_bytes)
        progress = ""
        if (task + 1) % plan.every == 0 or task + 1 == stream.tasks:
            # Made anew each time: the test digits of a hundred permutations take gigabytes.
            tests = (_on(setting, *stream.test(index)) for index in range(task + 1))
            scores = [_scores(learner, plan.scenario, index, *test) for index, test in enumerate(tests)]
            accuracy.append(tuple(right for right, _ in scores))
            inferred.append(tuple(found for _, found in scores if found is not None))
            if (found := _unknown(learner, plan.scenario, stream, task, setting)) is not None:
                unknown.append(found[0])
                foreign.append(found[1])
            progress = f"{100 * sum(accuracy[-1]) / len(accuracy[-1]):.2f} % so far, "
        log(
            f"{plan.benchmark} {plan.scenario} {method} seed {seed}: stream task {task + 1} of {stream.tasks}, "
            f"{progress}{seconds[-1]:.0f} s"
        )
    return Record(
        run=plan.run(stream, method, seed, config.model_dump(mode="json")),
        accuracy=tuple(accuracy),
        task_inference=tuple(inferred) if inferred[-1] else None,
        unknown=tuple(unknown) or None,
        foreign_auroc=tuple(foreign) if any(one is not None for one in foreign) else None,
        test_examples=tuple(len(stream.test(task)[1]) for task in range(stream.tasks)),
        seconds=tuple(seconds),
        cpu_seconds=tuple(cpu_seconds),
        kept_bytes=tuple(stored),
        threads=torch.get_num_threads(),
        device=torch.device(setting.device).type,
        command=command,
        versions={"torch": str(torch.__version__), "numpy": np.__version__},
    )


@torch.no_grad()
def _unknown(
    learner: ContinualMethod, scenario: Scenario, stream: TaskStream, now: int, setting: ComparisonSetting
) -> tuple[float, float | None] | None:
    """Return the share of test examples of tasks 0 to `now` that are called unknown, and the AUROC of that against
    examples of later tasks, None if there are none. Return None if the method has no such number."""
    if scenario == "cl1" or not stream.most:
        return None
    own = [learner.predict(_on(setting, *stream.test(task))[0], None).unknown for task in range(now + 1)]
    others = range(now + 1, stream.most)
    foreign = [learner.predict(_on(setting, *stream.test(task))[0], None).unknown for task in others]
    known = [found for found in own if found is not None]
    if not known:
        return None
    scores = torch.cat([*known, *(found for found in foreign if found is not None)]).cpu()
    is_foreign = torch.arange(len(scores)) >= sum(map(len, known))
    share = float((scores[~is_foreign] > UNKNOWN).double().mean())
    return share, auroc(scores, is_foreign) if others else None


def _on(setting: ComparisonSetting, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return x.to(setting.device), y.to(setting.device)


def _wait(setting: ComparisonSetting) -> None:
    """Wait for a GPU to finish its queued work, which belongs to the seconds measured."""
    if torch.device(setting.device).type == "cuda":
        torch.cuda.synchronize(setting.device)


@torch.no_grad()
def _scores(
    learner: ContinualMethod, scenario: Scenario, task: int, x: torch.Tensor, y: torch.Tensor
) -> tuple[float, float | None]:
    """Return the accuracy and the share of stream tasks inferred correctly, None if none was inferred.

    In CL3 a prediction is right only if its stream task is, too.
    """
    prediction: ContinualPrediction = learner.predict(x, task if scenario == "cl1" else None)
    right = prediction.label == y
    if prediction.task is None:
        if scenario == "cl3":
            raise LearnerError("in CL3 a method must predict the stream task")
        return float(right.double().mean()), None
    inferred = prediction.task == task
    if scenario == "cl3":
        right = right & inferred
    return float(right.double().mean()), float(inferred.double().mean())
