"""Cases of the contract: a learner, small tasks for it, and the score that a short training must reach."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from models.bayes.calibration import Calibration
from models.predictive import Categorical, Field, Gaussian, Predictive
from models.protocol import FOREIGN, MetaLearner, Trial
from models.registry import METHODS, LearnerConfig, blank_learner, build, input_of
from models.testing import tasks as drawn
from models.testing.failures import ContractError
from models.testing.tasks import Task, queries_of, support_of

_CLASSES: dict[str, tuple[Callable[..., Task], int, int]] = {
    "glyphs": (drawn.glyphs, 2, 4),
    "photos": (drawn.photos, 2, 4),
    "vectors": (drawn.vectors, 2, 5),
    "axes": (drawn.axes, 2, 5),
}
"""Tasks of classes with the fewest and the most classes they usually have."""


@dataclass(frozen=True)
class Case:
    """A learner, tasks for it, and the score it must beat after `steps` of training."""

    method: str
    draw: Callable[[torch.Generator], Task]
    score: Callable[[Predictive, Task], float]
    floor: float
    encoder: str = "identity"
    hparams: Mapping[str, Any] = field(default_factory=dict)
    encoder_hparams: Mapping[str, Any] = field(default_factory=dict)
    steps: int = 60
    lr: float = 1e-2

    @classmethod
    def of(cls, method: str, trial: Trial | None = None) -> Case:
        """Return the case of a registered method, by its own trial unless another is given.

        Raises `ContractError` if the trial's tasks are not of the method's kind, `LearnerError` if it does not build.
        """
        trial = METHODS[method].trial if trial is None else trial
        traits = blank_learner(method, trial.hparams, trial.encoder, trial.encoder_hparams).traits
        if (traits.kind == "regression") != (trial.tasks == "curves"):
            raise ContractError(
                f"trial: traits.kind of {method} is {traits.kind}, which tasks={trial.tasks!r} are not; "
                "regression needs tasks='curves'"
            )
        draw, score = drawn.curves, explained
        if trial.tasks != "curves":
            source, low, high = _CLASSES[trial.tasks]
            draw = partial(source, ways=(traits.ways.nearest(low), traits.ways.nearest(high)))
            score = advantage
        return cls(
            method,
            draw,
            score,
            trial.floor,
            trial.encoder,
            trial.hparams,
            trial.encoder_hparams,
            trial.steps,
            trial.lr,
        )

    @property
    def name(self) -> str:
        return "-".join((self.method, self.encoder, *map(str, self.hparams.values())))

    @property
    def config(self) -> LearnerConfig:
        return LearnerConfig(
            code_version="0",
            method=self.method,
            hparams=dict(self.hparams),
            encoder=self.encoder,
            encoder_hparams=dict(self.encoder_hparams),
            input=input_of(self.encoder, self.encoder_hparams),
        )

    def learner(self) -> MetaLearner:
        """Return the untrained learner, the same each time, in evaluation mode, with some calibration."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            learner = build(self.config).eval()
        if learner.calibration is not None:
            _fill(learner.calibration)
        return learner

    def tasks(self, count: int, seed: int = 0) -> list[Task]:
        rng = torch.Generator().manual_seed(seed)
        return [self.draw(rng) for _ in range(count)]

    def mean_score(self, learner: MetaLearner, tasks: list[Task]) -> float:
        with torch.no_grad():
            answers = learner.predict(learner.adapt(support_of(learner, tasks)), queries_of(learner, tasks))
        scores = [
            self.score(answers.at(index, len(task.query_x), len(task.labels)), task)
            for index, task in enumerate(tasks)
        ]
        return sum(scores) / len(scores)


def _fill(calibration: Calibration) -> None:
    """Set a mild calibration, different for each way and shot, so that all of its parts take part."""
    rng = torch.Generator().manual_seed(2)
    for vector in (calibration.temperature, calibration.epistemic, calibration.unknown_weight):
        vector.copy_(0.1 * torch.randn(vector.shape, generator=rng))
    quantiles = calibration.set_quantiles
    quantiles.copy_(torch.rand(quantiles.shape, generator=rng).cumsum(-1) / quantiles.shape[-1])
    calibration.has_unknown.fill_(True)
    calibration.has_sets.fill_(True)


def advantage(answer: Predictive, task: Task) -> float:
    """Return the accuracy on known queries, 0 at chance and 1 at best."""
    if not isinstance(answer, Categorical):
        raise ContractError(f"predict: a classifier answers with Categorical, not {type(answer).__name__}")
    known = task.query_y != FOREIGN
    correct = answer.log_probs[0].argmax(-1)[known] == task.query_y[known]
    chance = 1 / len(task.labels)
    return (float(correct.float().mean()) - chance) / (1 - chance)


def explained(answer: Predictive, task: Task) -> float:
    """Return the share of the variance explained."""
    if not isinstance(answer, Gaussian | Field):
        raise ContractError(f"predict: a regressor answers with Gaussian, not {type(answer).__name__}")
    value = answer.mean if isinstance(answer, Gaussian) else answer.values
    return 1 - float((value[0] - task.query_y).square().mean() / task.query_y.var(unbiased=False))
