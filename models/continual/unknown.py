"""The probability that a query is of no registered stream task, at even odds.

A ridge on classes says two things of what it never saw: its scores are far from any one-hot, and it has leverage,
it stands where examples do not. How much either weighs is fitted without other data than the tasks': each is left out
in turn by subtraction, and its examples are what is foreign to the others. So it takes two tasks. Examples of the
tasks that stay are known ones, each judged as if it had been left out itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from jaxtyping import Float, Int
from torch import Tensor

from models.continual.ridge import Moments, Solution, solve, without

_FOLDS = 6
"""Tasks left out at the most: each costs one solution, and a hundred say no more."""
_EXAMPLES = 512
"""Of all tasks together, for the same reason."""
_SKETCH = 64
"""Random directions that leverage is measured along: error √(2/64), an 18th of its deviation between queries."""
_DECAY = 1e-2
_FLOOR = 1e-6
_NEWTON = 20
_HALF = 6e4
"""Near the largest number of half precision."""


@dataclass(frozen=True)
class Sample:
    """A few examples of one stream task, as features; `y` counts from its first class."""

    features: Float[Tensor, "n f"]
    y: Int[Tensor, "n"]

    @classmethod
    def drawn(cls, features: Float[Tensor, "m f"], y: Int[Tensor, "m"], way: int, count: int) -> Sample:
        """Evenly over the classes, and over each class from its first example to its last."""
        each = max(2, count // way)
        members = [(y == index).nonzero()[:, 0] for index in range(way)]
        kept = torch.cat([of[_evenly(len(of), each)] for of in members])
        return cls(features[kept], y[kept])

    @classmethod
    def of(cls, part: Mapping[str, Tensor]) -> Sample:
        """As a task keeps it, beside its sums."""
        middle, spread = _frame(part)
        return cls((middle + spread * part["sample"]).float(), part["sample_y"])

    def stored(self, part: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """In half precision, about the mean of the task's sums and in their deviations."""
        middle, spread = _frame(part)
        away = ((self.features - middle) / spread).clamp(-_HALF, _HALF)
        return {"sample": away.half(), "sample_y": self.y}

    def thinned(self, count: int) -> Sample:
        kept = _evenly(len(self.y), count)
        return Sample(self.features[kept], self.y[kept])


def together(samples: Sequence[Sample], parts: Sequence[Mapping[str, Tensor]]) -> Sample:
    """Samples of several tasks as one; `y` counts their classes one task after the other."""
    offsets = accumulate((len(part["counts"]) for part in parts), initial=0)
    y = torch.cat([sample.y + offset for sample, offset in zip(samples, offsets, strict=False)])
    return Sample(torch.cat([sample.features for sample in samples]), y)


def fit(
    solution: Solution, found: Moments, parts: Sequence[Mapping[str, Tensor]], samples: Sequence[Sample]
) -> dict[str, Tensor]:
    """`sketch`, `sketch_bias`, of which leverage is the squared length, and `judge`, the weight of each input.

    `solution` is that of `found`, the moments of all parts.
    """
    few = [sample.thinned(max(4, _EXAMPLES // len(samples))) for sample in samples]
    known, foreign = [], []
    for out in _evenly(len(parts), _FOLDS).tolist():
        first = sum(len(part["counts"]) for part in parts[:out])
        fold = solve(without(found, parts[out], first), solution.penalty)
        foreign.append(inputs(fold.scores(samples[out].features), fold.leverage(samples[out].features)))
        stay = [index for index in range(len(parts)) if index != out]
        others = together([few[index] for index in stay], [parts[index] for index in stay])
        known.append(inputs(*fold.left_out(others.features, others.y)))
    judge = _logistic(torch.cat(known), torch.cat(foreign))
    size = len(solution.mean)
    drawn = torch.randn(_SKETCH, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sketch = torch.linalg.solve_triangular(solution.factor, drawn / _SKETCH**0.5, upper=False, left=False)
    return {
        "sketch": sketch.float(),
        "sketch_bias": -(sketch @ solution.mean).float(),
        "judge": judge.float(),
    }


def inputs(scores: Float[Tensor, "*n classes"], leverage: Float[Tensor, "*n"]) -> Float[Tensor, "*n 3"]:
    """What speaks for `unknown`: log squared distance of the scores from the nearest one-hot, less margin, log
    leverage. Scores of padding are -inf."""
    top = scores.topk(2).values
    length = scores.where(scores > -torch.inf, 0).square().sum(-1)
    distance = (length - 2 * top[..., 0] + 1).clamp_min(_FLOOR)
    # Beyond a whole class, a larger margin is no better: scores of far inputs are large.
    margin = (top[..., 0] - top[..., 1]).clamp_max(1)
    return torch.stack((distance.log(), -margin, leverage.clamp_min(_FLOOR).log()), -1)


def sketched_leverage(
    task: Mapping[str, Tensor], features: Float[Tensor, "batch query f"]
) -> Float[Tensor, "batch query"]:
    """φᵀ(Σ φφᵀ + λI)⁻¹φ from the sketch in the gate's weights."""
    along = features @ task["sketch"].transpose(1, 2) + task["sketch_bias"][:, None]
    return along.square().sum(-1)


def probability(
    judge: Float[Tensor, "batch 4"], found: Float[Tensor, "batch query 3"]
) -> Float[Tensor, "batch query"]:
    """Of a query being of no task."""
    return (torch.einsum("bqi,bi->bq", found, judge[:, :3]) + judge[:, 3:]).sigmoid()


def _logistic(known: Float[Tensor, "m 3"], foreign: Float[Tensor, "n 3"]) -> Float[Tensor, "4"]:
    """Weights of the inputs, then the intercept: logistic regression with both kinds weighing the same.

    None speaks against `unknown`: an input that would is left out, and the rest is fitted again.
    """
    x = torch.cat((known, foreign)).double()
    y = torch.cat((torch.zeros(len(known)), torch.ones(len(foreign)))).double()
    weight = torch.where(y > 0, 0.5 / len(foreign), 0.5 / len(known)).double()
    middle, spread = x.mean(0), x.std(0).clamp_min(_FLOOR)
    z = torch.cat(((x - middle) / spread, torch.ones(len(x), 1)), 1)
    while True:
        w = _newton(z, y, weight)
        against = w[:3] < 0
        if not against.any():
            break
        z[:, :3] = z[:, :3].masked_fill(against, 0)
    slopes = w[:3] / spread
    return torch.cat((slopes, (w[3] - slopes @ middle).reshape(1)))


def _newton(z: Float[Tensor, "n 4"], y: Float[Tensor, "n"], weight: Float[Tensor, "n"]) -> Float[Tensor, "4"]:
    decay = torch.tensor([_DECAY, _DECAY, _DECAY, _FLOOR]).double()
    w = torch.zeros(4, dtype=torch.float64)
    for _ in range(_NEWTON):
        p = (z @ w).sigmoid()
        gradient = z.T @ (weight * (p - y)) + decay * w
        curvature = (z * (weight * p * (1 - p))[:, None]).T @ z + torch.diag(decay)
        w = w - torch.linalg.solve(curvature, gradient)
    return w


def _evenly(length: int, count: int) -> Int[Tensor, "kept"]:
    return torch.linspace(0, length - 1, min(count, length)).round().long()


def _frame(part: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    n = part["counts"].sum()
    return part["class_sums"].sum(0) / n, part["deviation"] / n.sqrt()
