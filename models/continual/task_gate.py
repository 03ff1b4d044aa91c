"""Task inference of a stream: the stream task that a query belongs to, or that it belongs to none.

P(task) is the softmax of ridge scores on fixed features, over the classes of all stream tasks at one temperature,
summed over the classes of each task. Nothing is learned by gradients and no example is replayed: registering adds the
sums of a task (`models.continual.incremental_ridge`) and forgetting leaves them out. Tensors derived from one task are
stored in that task's part of the version, tensors derived from all of them in the shared part, both under `gate.`.
Gate weights: a block of class rows for each stream task, padded to the largest way; a temperature; a leverage sketch
and a logistic regression for `unknown`.

`unknown` is the probability that a query belongs to no registered stream task. It rises with the distance of the ridge
scores from any one-hot vector and with leverage. The regression is fitted without further data: each task is left out
in turn by subtraction and its examples are foreign to the others. Examples of the remaining tasks are the known ones,
each scored as if it had been left out itself. It takes two tasks; the slopes of a single one are typical of others.

Where tasks are alike, even odds would call a quarter of their own examples unknown. So the intercept is lowered until
at most `_FALSE_ALARMS` of the examples of all tasks, each scored as if left out, exceed 0.5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from models.continual.fixed_features import FeatureConfig, fixed_features
from models.continual.incremental_ridge import Moments, Precision, Solution, moments, solve, sums, without
from models.noise import label_key
from models.predictive import Categorical
from models.protocol import LearnerError, TaskWeights
from models.stream_protocol import StreamVersion

PREFIX = "gate."
_TEMPERATURES = torch.logspace(0, 2, 41, dtype=torch.float64)
_TEMPERATURE_EXAMPLES = 1024
"""Number of examples, over all tasks, from which the temperature is read."""
_MOST_FOLDS = 6
"""Most tasks to leave out in turn: each costs one solution, and a hundred say no more."""
_FOLD_EXAMPLES = 512
"""Number of known examples in each fold, over all tasks, for the same reason."""
_CALIBRATION_EXAMPLES = 1024
"""Number of examples, over all tasks, by which the intercept of `unknown` is lowered."""
_FALSE_ALARMS = 0.02
"""Share of them that may exceed 0.5, for one query in twenty at most to do so: a few tasks have few examples, and
queries are often drawn by others than the examples."""
_TYPICAL_SLOPES = (1.0, 1.0, 1.0)
"""Slopes of `unknown` per deviation of each evidence over known examples, for a single task: about what the regression
gives streams of five pairs of characters."""
_SKETCH_DIRECTIONS = 64
"""Random directions along which leverage is measured: error √(2/64), an 18th of its deviation between queries."""
_WEIGHT_DECAY = 1e-2
_FLOOR = 1e-6
_NEWTON_STEPS = 20
_HALF_MAX = 6e4
"""Close to the largest half-precision number."""


def temperature(scores: Float[Tensor, "n classes"], y: Int[Tensor, "n"]) -> Float[Tensor, ""]:
    """Return the most likely inverse temperature, given scores of examples that they were not fitted to.

    One pseudo-example is spread over all classes, so that a few examples, all of them right, do not promise certainty.
    """
    spread = 1 / (len(y) + 1)
    best, lowest = _TEMPERATURES[0], torch.inf
    for candidate in _TEMPERATURES:
        log_probs = (candidate * scores.double()).log_softmax(-1)
        right = log_probs.gather(1, y[:, None]).mean()
        loss = float(-(1 - spread) * right - spread * log_probs.mean())
        if loss < lowest:
            best, lowest = candidate, loss
    return best.float()


class GateConfig(BaseModel):
    """Fixed features, and the statistics of them that are stored for each stream task."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    features: FeatureConfig = Field(default_factory=FeatureConfig)
    precision: Precision = "int16"
    """Precision of the stored sums: int16 takes half the bytes of float32 and costs 0.02 points on split-MNIST."""
    sample: int = Field(default=128, ge=4, le=1024)
    """Examples of each task stored as features, for temperature and `unknown` alone: no class is fitted to them."""


class Gate(nn.Module):
    """Task inference for streams whose features, as returned by `embed`, have the given shape.

    The module holds no state beyond the fixed features, which follow from the seed.
    """

    def __init__(self, shape: tuple[int, ...], seed: int, config: GateConfig | None = None) -> None:
        super().__init__()
        self.config = config or GateConfig()
        self.features = fixed_features(shape, self.config.features, seed)

    def task_part(self, x: Float[Tensor, "n *feature"], y: Int[Tensor, "n"], way: int) -> dict[str, Tensor]:
        """Return the tensors to store in `per_task[task]`; `y` counts the task's classes from 0."""
        return self.task_part_from_features(self.features(x), y, way)

    def task_part_from_features(
        self, features: Float[Tensor, "n f"], y: Int[Tensor, "n"], way: int
    ) -> dict[str, Tensor]:
        """Return `task_part` given fixed features, on any device. Sums are computed on the CPU."""
        features, y = features.cpu(), y.cpu()
        task_sums = sums(features, y, way, self.config.precision)
        sample = FeatureSample.drawn(features, y, way, self.config.sample)
        return {PREFIX + name: value for name, value in {**task_sums, **sample.stored(task_sums)}.items()}

    def fit(
        self, labels: Mapping[str, tuple[str, ...]], per_task: Mapping[str, Mapping[str, Tensor]]
    ) -> dict[str, Tensor]:
        """Return the tensors to store in `shared`, computed from all tasks after each change of the stream.

        The same tasks give the same bits in any order of registration, except for the order of their rows.
        """
        names = sorted(labels)
        parts = [_gate_tensors(per_task[name]) for name in names]
        samples = [FeatureSample.restored(part) for part in parts]
        total = moments(parts)
        solution = solve(total)
        shared = _class_rows(solution, names, labels)
        shared["scale"] = _scale(solution, samples, parts)
        shared.update(fit_unknown(solution, total, parts, samples))
        return {PREFIX + name: value for name, value in shared.items()}

    def weights(self, version: StreamVersion) -> TaskWeights:
        """Return the gate of a version. Raise `LearnerError` if the version holds no tensors of `fit`."""
        shared = _gate_tensors(version.shared)
        if "row" not in shared:
            raise LearnerError("this version has no gate")
        ways = [len(labels) for labels in version.labels.values()]
        row, bias = shared["row"], shared["bias"]
        blocks = row.new_zeros(len(ways), max(ways), row.shape[1])
        offsets = row.new_zeros(len(ways), max(ways))
        mask = torch.arange(max(ways)) < torch.tensor(ways)[:, None]
        blocks[mask], offsets[mask] = row, bias
        present = [name for name in ("scale", "sketch", "sketch_bias", "judge") if name in shared]
        return TaskWeights(
            {name: shared[name][None] for name in present},
            {"row": blocks[None], "bias": offsets[None], "held": mask[None]},
            torch.tensor([len(ways)]),
            torch.tensor([[label_key(task) for task in version.tasks]]),
            torch.zeros(1, dtype=torch.long),
        )

    def posterior(self, weights: TaskWeights, x: Float[Tensor, "batch query *feature"]) -> Categorical:
        """Return P(task) over stream tasks, with `unknown`."""
        return self.posterior_from_features(weights, self.features(x))

    def posterior_from_features(
        self, weights: TaskWeights, features: Float[Tensor, "batch query f"]
    ) -> Categorical:
        """Return `posterior` given fixed features."""
        mask = weights.rows["held"] & weights.class_mask[..., None]
        scores = class_scores(weights, features, mask)
        scaled = scores * weights.task["scale"][:, None]
        # A padded task has no class: its sum over nothing is log 0, which logsumexp takes of -inf.
        log_probs = scaled.log_softmax(-1).unflatten(-1, mask.shape[1:]).logsumexp(-1)
        if "judge" not in weights.task:
            return Categorical(log_probs)
        evidence = unknown_evidence(scores, sketched_leverage(weights.task, features))
        return Categorical(log_probs, unknown=unknown_probability(weights.task["judge"], evidence))


def class_scores(
    weights: TaskWeights, features: Float[Tensor, "batch query f"], mask: Bool[Tensor, "batch task way"]
) -> Float[Tensor, "batch query classes"]:
    """Return the score of every class of every task, padding at -inf."""
    scores = torch.einsum("bqf,btkf->bqtk", features, weights.rows["row"]) + weights.rows["bias"][:, None]
    return scores.masked_fill(~mask[:, None], -torch.inf).flatten(2)


def _gate_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name[len(PREFIX) :]: value for name, value in tensors.items() if name.startswith(PREFIX)}


def _class_rows(
    solution: Solution, names: list[str], labels: Mapping[str, tuple[str, ...]]
) -> dict[str, Tensor]:
    """Return class rows in the order of registration; they were solved in the order of task names."""
    ways = [len(labels[name]) for name in names]
    rows = dict(zip(names, solution.rows.float().split(ways), strict=True))
    bias = dict(zip(names, solution.bias.float().split(ways), strict=True))
    return {
        "row": torch.cat([rows[name] for name in labels]),
        "bias": torch.cat([bias[name] for name in labels]),
    }


def _scale(solution: Solution, samples: list[FeatureSample], parts: list[dict[str, Tensor]]) -> Tensor:
    """Return the inverse temperature at which examples, each scored as if left out, are most likely."""
    few = [sample.thinned(max(4, _TEMPERATURE_EXAMPLES // len(samples))) for sample in samples]
    joined = concatenated(few, parts)
    return temperature(solution.left_out(joined.features, joined.y)[0], joined.y).reshape(1)


@dataclass(frozen=True)
class FeatureSample:
    """A few examples of one stream task, as fixed features; `y` counts the task's classes from 0."""

    features: Float[Tensor, "n f"]
    y: Int[Tensor, "n"]

    @classmethod
    def drawn(
        cls, features: Float[Tensor, "m f"], y: Int[Tensor, "m"], way: int, count: int
    ) -> FeatureSample:
        """Return examples spaced evenly over the classes and, within a class, from its first example to its last."""
        per_class = max(2, count // way)
        members = [(y == index).nonzero()[:, 0] for index in range(way)]
        chosen = torch.cat([rows[_evenly(len(rows), per_class)] for rows in members])
        return cls(features[chosen], y[chosen])

    @classmethod
    def restored(cls, part: Mapping[str, Tensor]) -> FeatureSample:
        """Return the sample that a task stores beside its sums."""
        middle, spread = _frame(part)
        return cls((middle + spread * part["sample"]).float(), part["sample_y"])

    def stored(self, part: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the sample in half precision, relative to the mean and the deviations of the task's sums."""
        middle, spread = _frame(part)
        away = ((self.features - middle) / spread).clamp(-_HALF_MAX, _HALF_MAX)
        return {"sample": away.half(), "sample_y": self.y}

    def thinned(self, count: int) -> FeatureSample:
        rows = _evenly(len(self.y), count)
        return FeatureSample(self.features[rows], self.y[rows])


def concatenated(samples: Sequence[FeatureSample], parts: Sequence[Mapping[str, Tensor]]) -> FeatureSample:
    """Join the samples of several tasks; `y` counts their classes one task after the other."""
    offsets = accumulate((len(part["counts"]) for part in parts), initial=0)
    y = torch.cat([sample.y + offset for sample, offset in zip(samples, offsets, strict=False)])
    return FeatureSample(torch.cat([sample.features for sample in samples]), y)


def fit_unknown(
    solution: Solution,
    total: Moments,
    parts: Sequence[Mapping[str, Tensor]],
    samples: Sequence[FeatureSample],
) -> dict[str, Tensor]:
    """Return `sketch` and `sketch_bias`, whose squared length is leverage, and `judge`, the regression's weights.

    `total` are the moments of all parts and `solution` their ridge solution.
    """
    few = [sample.thinned(max(4, _CALIBRATION_EXAMPLES // len(samples))) for sample in samples]
    joined = concatenated(few, parts)
    scores, leverage = solution.left_out(joined.features, joined.y)
    known = unknown_evidence(scores, leverage * _sketch_errors(len(leverage)))
    judge = _typical(known) if len(parts) == 1 else _leave_tasks_out(solution, total, parts, samples)
    size = len(solution.mean)
    drawn = torch.randn(
        _SKETCH_DIRECTIONS, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    sketch = torch.linalg.solve_triangular(
        solution.factor, drawn / _SKETCH_DIRECTIONS**0.5, upper=False, left=False
    )
    return {
        "sketch": sketch.float(),
        "sketch_bias": -(sketch @ solution.mean).float(),
        "judge": _with_few_false_alarms(judge, known).float(),
    }


def _leave_tasks_out(
    solution: Solution,
    total: Moments,
    parts: Sequence[Mapping[str, Tensor]],
    samples: Sequence[FeatureSample],
) -> Float[Tensor, "4"]:
    """Fit the regression, at even odds, with each of some tasks left out in turn."""
    few = [sample.thinned(max(4, _FOLD_EXAMPLES // len(samples))) for sample in samples]
    known, foreign = [], []
    for out in _evenly(len(parts), _MOST_FOLDS).tolist():
        first = sum(len(part["counts"]) for part in parts[:out])
        fold = solve(without(total, parts[out], first), solution.penalty)
        features = samples[out].features
        foreign.append(unknown_evidence(fold.scores(features), fold.leverage(features)))
        others = [index for index in range(len(parts)) if index != out]
        joined = concatenated([few[index] for index in others], [parts[index] for index in others])
        known.append(unknown_evidence(*fold.left_out(joined.features, joined.y)))
    return _logistic(torch.cat(known), torch.cat(foreign))


def _typical(known: Float[Tensor, "n 3"]) -> Float[Tensor, "4"]:
    """Return a regression with typical slopes that has the mean of known examples at 0.5."""
    slopes = torch.tensor(_TYPICAL_SLOPES, dtype=torch.float64) / known.std(0).clamp_min(_FLOOR)
    return torch.cat((slopes, -(slopes @ known.mean(0)).reshape(1)))


def _with_few_false_alarms(judge: Float[Tensor, "4"], known: Float[Tensor, "n 3"]) -> Float[Tensor, "4"]:
    """Lower the intercept until no more than `_FALSE_ALARMS` of the known examples exceed 0.5."""
    logits = known @ judge[:3] + judge[3]
    # With n examples, a query exceeds the k-th largest with probability k / (n + 1); half a deviation to be safe.
    expected = _FALSE_ALARMS * (len(logits) + 1)
    count = max(1, int(expected - expected**0.5 / 2))
    above = logits.topk(count).values[-1]
    return torch.cat((judge[:3], (judge[3] - above.clamp_min(0)).reshape(1)))


def _sketch_errors(count: int) -> Float[Tensor, "count"]:
    """Draw the factors by which sketched leverages differ from exact ones: queries have the former, examples these."""
    drawn = torch.randn(
        count, _SKETCH_DIRECTIONS, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    return drawn.square().mean(-1)


def unknown_evidence(
    scores: Float[Tensor, "*n classes"], leverage: Float[Tensor, "*n"]
) -> Float[Tensor, "*n 3"]:
    """Return the evidence for `unknown`: log squared distance of the scores from the nearest one-hot vector, negative
    margin, log leverage. Scores of padding are -inf."""
    top = scores.topk(2).values
    length = scores.where(scores > -torch.inf, 0).square().sum(-1)
    distance = (length - 2 * top[..., 0] + 1).clamp_min(_FLOOR)
    # Beyond a whole class, a larger margin is no better: scores of far inputs are large.
    margin = (top[..., 0] - top[..., 1]).clamp_max(1)
    return torch.stack((distance.log(), -margin, leverage.clamp_min(_FLOOR).log()), -1)


def sketched_leverage(
    task: Mapping[str, Tensor], features: Float[Tensor, "batch query f"]
) -> Float[Tensor, "batch query"]:
    """Estimate φᵀ(Σ φφᵀ + λI)⁻¹φ from the sketch in the gate's weights."""
    along = features @ task["sketch"].transpose(1, 2) + task["sketch_bias"][:, None]
    return along.square().sum(-1)


def unknown_probability(
    judge: Float[Tensor, "batch 4"], evidence: Float[Tensor, "batch query 3"]
) -> Float[Tensor, "batch query"]:
    """Return the probability that a query belongs to no task."""
    return (torch.einsum("bqi,bi->bq", evidence, judge[:, :3]) + judge[:, 3:]).sigmoid()


def _logistic(known: Float[Tensor, "m 3"], foreign: Float[Tensor, "n 3"]) -> Float[Tensor, "4"]:
    """Fit a logistic regression in which both kinds weigh the same. Return the slopes, then the intercept.

    No slope is negative: evidence that would get a negative one is dropped, and the rest is fitted again.
    """
    x = torch.cat((known, foreign)).double()
    y = torch.cat((torch.zeros(len(known)), torch.ones(len(foreign)))).double()
    weight = torch.where(y > 0, 0.5 / len(foreign), 0.5 / len(known)).double()
    middle, spread = x.mean(0), x.std(0).clamp_min(_FLOOR)
    z = torch.cat(((x - middle) / spread, torch.ones(len(x), 1)), 1)
    while True:
        w = _newton(z, y, weight)
        negative = w[:3] < 0
        if not negative.any():
            break
        z[:, :3] = z[:, :3].masked_fill(negative, 0)
    slopes = w[:3] / spread
    return torch.cat((slopes, (w[3] - slopes @ middle).reshape(1)))


def _newton(z: Float[Tensor, "n 4"], y: Float[Tensor, "n"], weight: Float[Tensor, "n"]) -> Float[Tensor, "4"]:
    decay = torch.tensor([_WEIGHT_DECAY, _WEIGHT_DECAY, _WEIGHT_DECAY, _FLOOR]).double()
    w = torch.zeros(4, dtype=torch.float64)
    for _ in range(_NEWTON_STEPS):
        p = (z @ w).sigmoid()
        gradient = z.T @ (weight * (p - y)) + decay * w
        curvature = (z * (weight * p * (1 - p))[:, None]).T @ z + torch.diag(decay)
        w = w - torch.linalg.solve(curvature, gradient)
    return w


def _evenly(length: int, count: int) -> Int[Tensor, "chosen"]:
    return torch.linspace(0, length - 1, min(count, length)).round().long()


def _frame(part: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    n = part["counts"].sum()
    return part["class_sums"].sum(0) / n, part["deviation"] / n.sqrt()
