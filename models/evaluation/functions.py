"""Measurement of learners of functions: error and likelihood by shots and steps, intervals, epistemic variance.

Every table is over the same tasks for every learner, none of which occurs in training or validation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from models.data.functions import (
    Completion,
    Family,
    FunctionConfig,
    FunctionSampler,
    Purpose,
    Sinusoids,
)
from models.evaluation.scores import MeanEstimate
from models.fewshot.common.regression import Regressor
from models.fewshot.maml_regression import MamlRegression
from models.predictive import Gaussian
from models.protocol import LearnerError, MetaLearner, Support, TaskWeights

SHOTS = (1, 2, 5, 10, 20)
STEP_SHOTS = (5, 10)
STEPS = (0, 1, 2, 5, 10)
CONTEXTS = (10, 100, 784)
_QUERIES = 100
_CHUNK = 100
"""Tasks answered at a time."""
_Z90 = 1.6448536269514722
"""Half-width of the middle 90 % of a normal distribution, in standard deviations."""

Adapt = Callable[[Support], TaskWeights]


@dataclass(frozen=True)
class Answered:
    """Answers to the queries of a batch of tasks, with the true values."""

    answer: Gaussian
    target: Float[Tensor, "tasks query target"]

    @property
    def mse(self) -> Float[Tensor, "tasks"]:
        return (self.answer.mean - self.target).square().mean((1, 2))

    @property
    def nll(self) -> Float[Tensor, "tasks"]:
        """−log density of a point, in nats."""
        return -self.answer.log_prob(self.target).mean(1)

    @property
    def squared_deviations(self) -> Float[Tensor, "tasks query target"]:
        """Squared errors over the variance of the answers."""
        epistemic = self.answer.epistemic
        variance = self.answer.aleatoric if epistemic is None else self.answer.aleatoric + epistemic
        return (self.answer.mean - self.target).square() / variance

    @property
    def covered(self) -> Float[Tensor, "tasks"]:
        """Share of the targets within the 90 % interval of the answer."""
        return (self.squared_deviations <= _Z90**2).float().mean((1, 2))

    @property
    def epistemic(self) -> Float[Tensor, "tasks"] | None:
        return None if self.answer.epistemic is None else self.answer.epistemic.mean((1, 2))

    def select(self, chosen: Bool[Tensor, "query"]) -> Answered:
        """Return the answers to some of the queries."""
        answer, epistemic = self.answer, self.answer.epistemic
        part = Gaussian(
            answer.mean[:, chosen],
            answer.aleatoric[:, chosen],
            None if epistemic is None else epistemic[:, chosen],
        )
        return Answered(part, self.target[:, chosen])


def answered(
    learner: MetaLearner,
    x: Float[Tensor, "tasks support dim"],
    y: Float[Tensor, "tasks support target"],
    query: Float[Tensor, "tasks query dim"],
    target: Float[Tensor, "tasks query target"],
    adapt: Adapt | None = None,
) -> Answered:
    """Answer queries of functions. Raises `LearnerError` for a learner of other functions or of none."""
    lengths = x.shape[-1], y.shape[-1]
    if not isinstance(learner, Regressor) or not learner.takes(*lengths):
        raise LearnerError(
            f"this protocol is for learners of functions from {lengths[0]} to {lengths[1]} numbers"
        )
    with torch.no_grad():
        features, queries = (learner.embed(v.flatten(0, 1)).unflatten(0, v.shape[:2]) for v in (x, query))
        answer = learner.predict((adapt or learner.adapt)(Support.of(features, y)), queries)
    assert isinstance(answer, Gaussian)
    return Answered(answer, target)


def answers(
    learner: MetaLearner,
    family: Family,
    shot: int,
    tasks: int,
    seed: int,
    purpose: Purpose,
    adapt: Adapt | None = None,
) -> Iterator[Answered]:
    """Answer fresh functions at points beside the shots: 100 of each, or as many as there are."""
    points = family.most_points
    queries = _QUERIES if points is None else max(1, min(_QUERIES, points - shot))
    chunk = min(tasks, family.most_tasks or _CHUNK)
    config = FunctionConfig(min_shot=shot, max_shot=shot, queries=queries, tasks=chunk)
    sampler = FunctionSampler(family, config, seed, purpose)
    for step in range(math.ceil(tasks / chunk)):
        drawn = sampler.episodes(shot * 100_000 + step)
        assert drawn.support_y is not None
        yield answered(learner, drawn.support_x, drawn.support_y, drawn.query_x, drawn.query_y, adapt)


def row(found: list[Answered]) -> dict[str, Any]:
    """Return estimates over tasks: error, likelihood, coverage, variances."""
    epistemic = [batch.epistemic for batch in found if batch.epistemic is not None]
    return {
        "mse": asdict(MeanEstimate.over(torch.cat([batch.mse for batch in found]))),
        "nll": asdict(MeanEstimate.over(torch.cat([batch.nll for batch in found]))),
        "coverage_90": asdict(MeanEstimate.over(torch.cat([batch.covered for batch in found]))),
        "mean_aleatoric": float(torch.cat([batch.answer.aleatoric.mean((1, 2)) for batch in found]).mean()),
        "mean_epistemic": float(torch.cat(epistemic).mean()) if epistemic else None,
    }


def sinusoid(learner: MetaLearner, tasks: int, seed: int) -> dict[str, Any]:
    """Measure a learner on MAML's sinusoids (1703.03400)."""
    family, purpose = Sinusoids(), Purpose.measurement
    result: dict[str, Any] = {
        "protocol": f"A sin(x + φ), A in [0.1, 5], φ in [0, π], x in [−5, 5], no noise; {_QUERIES} fresh query points "
        "a task; ± is the half-width of the 95 % interval over tasks",
        "tasks": tasks,
        "seed": seed,
        "by_shots": [
            {"shot": shot} | row(list(answers(learner, family, shot, tasks, seed, purpose))) for shot in SHOTS
        ],
        "support_in_the_left_half_10_shots": _outside_the_shots(learner, tasks, seed),
    }
    if isinstance(learner, MamlRegression):
        result["by_inner_steps"] = [
            {"shot": shot, "inner_steps": steps, "mse": measured["mse"]}
            for shot in STEP_SHOTS
            for steps in STEPS
            for measured in [
                row(list(answers(learner, family, shot, tasks, seed, purpose, _after(learner, steps))))
            ]
        ]
    return result


def _after(learner: MamlRegression, steps: int) -> Adapt:
    return lambda support: learner.after(support, steps)


_PLACES = {
    "among the shots: x in [−5, 0]": (-5.0, 0.0),
    "beside them: x in [0, 5]": (0.0, 5.0),
    "beyond training: x in [5, 10]": (5.0, 10.0),
}


def _outside_the_shots(learner: MetaLearner, tasks: int, seed: int) -> list[dict[str, Any]]:
    """Measure ten shots in [−5, 0] there, in the other half, and beyond all tasks of training."""
    shot, per_place = 10, _QUERIES // len(_PLACES)
    half = FunctionConfig(min_shot=shot, max_shot=shot, queries=1, tasks=tasks)
    rng = FunctionSampler(Sinusoids(), half, seed, Purpose.measurement).generator(0)
    height, phase = Sinusoids.parameters(rng, tasks)
    x = -5 * torch.rand(tasks, shot, 1, generator=rng)
    query = torch.cat(
        [
            low + (high - low) * torch.rand(tasks, per_place, 1, generator=rng)
            for low, high in _PLACES.values()
        ],
        dim=1,
    )
    values = Sinusoids.values
    found = answered(learner, x, values(x, height, phase), query, values(query, height, phase))
    owner = torch.arange(query.shape[1]) // per_place
    return [{"place": place} | row([found.select(owner == i)]) for i, place in enumerate(_PLACES)]


def completion(learner: MetaLearner, pictures: Completion, tasks: int, seed: int) -> dict[str, Any]:
    """Measure the completion of pictures: error and likelihood over all pixels, those of the context too."""
    points = pictures.most_points
    assert points is not None
    everything = FunctionConfig(min_shot=1, max_shot=1, queries=points - 1, tasks=min(tasks, _CHUNK))
    sampler = FunctionSampler(pictures, everything, seed, Purpose.measurement)
    steps = math.ceil(tasks / everything.tasks)
    drawn = [pictures.draw(sampler.generator(step), everything.tasks, points) for step in range(steps)]
    blind = torch.cat([y for _, y in drawn]).var((1, 2), unbiased=False)
    return {
        "protocol": "context pixels in random places; all pixels are asked, values in [0, 1]; ± is the half-width of "
        "the 95 % interval over pictures",
        "pictures": tasks,
        "seed": seed,
        "variance_of_a_picture": asdict(MeanEstimate.over(blind)),
        "by_context": [
            {"context": n} | row([answered(learner, x[:, :n], y[:, :n], x, y) for x, y in drawn])
            for n in CONTEXTS
            if n <= points
        ],
    }


def merge_learners(found: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Merge results of several learners into one, table rows with the name of their learner; one result stays."""
    first, *others = found.values()
    if not others:
        return first
    merged = {key: value for key, value in first.items() if not isinstance(value, list)}
    for key in dict.fromkeys(key for result in found.values() for key in result if key not in merged):
        merged[key] = [
            {"learner": name} | row for name, result in found.items() for row in result.get(key, [])
        ]
    return merged
