"""Which stream task a query belongs to: ridge on fixed features, over the classes of every task at once.

P(task) is the softmax of the class scores at one temperature, summed over the classes of the task. Nothing is learned
by gradients and no example is replayed: a task adds its sums (`models.continual.ridge`) and is forgotten by leaving
them out. What the gate knows of one task stands in that task's own tensors, what follows from all of them together in
the shared ones, both under `gate.`. Weights of the gate: a block of class rows per stream task, padded to the largest
way; a temperature; where there are two tasks or more, what judges `unknown`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from models.continual import unknown
from models.continual.features import FeatureConfig, fixed_features
from models.continual.ridge import Precision, Solution, moments, solve, sums
from models.noise import label_key
from models.predictive import Categorical
from models.protocol import LearnerError, TaskWeights
from models.stream_protocol import StreamVersion

_CANDIDATES = torch.logspace(0, 2, 41, dtype=torch.float64)


def temperature(scores: Float[Tensor, "n classes"], y: Int[Tensor, "n"]) -> Float[Tensor, ""]:
    """Scores are of examples that they were not fitted to. One pseudo-example is spread over all classes, so that a
    few examples that are all right do not promise certainty."""
    spread = 1 / (len(y) + 1)
    best, lowest = _CANDIDATES[0], torch.inf
    for candidate in _CANDIDATES:
        log_probs = (candidate * scores.double()).log_softmax(-1)
        right = log_probs.gather(1, y[:, None]).mean()
        loss = float(-(1 - spread) * right - spread * log_probs.mean())
        if loss < lowest:
            best, lowest = candidate, loss
    return best.float()


PREFIX = "gate."
_SAMPLES = 1024
"""Examples of all tasks together that the temperature is read from."""


class GateConfig(BaseModel):
    """Fixed features, and what is kept of them per stream task."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    features: FeatureConfig = Field(default_factory=FeatureConfig)
    precision: Precision = "int16"
    """Of the sums kept: half the bytes of float32, and two hundredths of a point on split-MNIST."""
    sample: int = Field(default=64, ge=4, le=1024)
    """Examples of each task kept as features, for temperature and `unknown` alone: no class is fitted to them."""


class Gate(nn.Module):
    """`shape` is that of one feature, as `embed` of the stream gives it. Holds no state but what the seed says."""

    def __init__(self, shape: tuple[int, ...], seed: int, config: GateConfig | None = None) -> None:
        super().__init__()
        self.config = config or GateConfig()
        self.features = fixed_features(shape, self.config.features, seed)

    def own(self, x: Float[Tensor, "n *feature"], y: Int[Tensor, "n"], way: int) -> dict[str, Tensor]:
        """What to keep in `own[task]`, under `gate.`; `y` counts the task's classes from 0."""
        return self.own_of(self.features(x), y, way)

    def own_of(self, lifted: Float[Tensor, "n f"], y: Int[Tensor, "n"], way: int) -> dict[str, Tensor]:
        """The same of fixed features. Wherever those were made, sums are kept and solved by the processor."""
        lifted, y = lifted.cpu(), y.cpu()
        kept = sums(lifted, y, way, self.config.precision)
        sample = unknown.Sample.drawn(lifted, y, way, self.config.sample)
        return {PREFIX + name: value for name, value in {**kept, **sample.stored(kept)}.items()}

    def fit(
        self, labels: Mapping[str, tuple[str, ...]], own: Mapping[str, Mapping[str, Tensor]]
    ) -> dict[str, Tensor]:
        """What to keep in `shared`, under `gate.`: after every change of the stream's tasks, from all of them.

        The same tasks give the same bits, whatever order they came in, but for the order of their rows.
        """
        names = sorted(labels)
        parts = [_mine(own[name]) for name in names]
        samples = [unknown.Sample.of(part) for part in parts]
        found = moments(parts)
        solution = solve(found)
        shared = _rows(solution, names, labels)
        shared["scale"] = _scale(solution, samples, parts)
        if len(names) > 1:
            shared.update(unknown.fit(solution, found, parts, samples))
        return {PREFIX + name: value for name, value in shared.items()}

    def weights(self, version: StreamVersion) -> TaskWeights:
        """Raises `LearnerError` where `fit` is missing from the version."""
        shared = _mine(version.shared)
        if "row" not in shared:
            raise LearnerError("this version has no gate")
        ways = [len(labels) for labels in version.labels.values()]
        row, bias = shared["row"], shared["bias"]
        blocks = row.new_zeros(len(ways), max(ways), row.shape[1])
        offsets = row.new_zeros(len(ways), max(ways))
        held = torch.arange(max(ways)) < torch.tensor(ways)[:, None]
        blocks[held], offsets[held] = row, bias
        judging = [name for name in ("scale", "sketch", "sketch_bias", "judge") if name in shared]
        return TaskWeights(
            {name: shared[name][None] for name in judging},
            {"row": blocks[None], "bias": offsets[None], "held": held[None]},
            torch.tensor([len(ways)]),
            torch.tensor([[label_key(task) for task in version.tasks]]),
            torch.zeros(1, dtype=torch.long),
        )

    def posterior(self, weights: TaskWeights, x: Float[Tensor, "batch query *feature"]) -> Categorical:
        """Over stream tasks; `unknown` is None where there is one task only."""
        return self.posterior_of(weights, self.features(x))

    def posterior_of(self, weights: TaskWeights, lifted: Float[Tensor, "batch query f"]) -> Categorical:
        """The same of fixed features."""
        held = weights.rows["held"] & weights.class_mask[..., None]
        scores = class_scores(weights, lifted, held)
        scaled = scores * weights.task["scale"][:, None]
        # A padded task has no class: its sum over nothing is log 0, which logsumexp takes of -inf.
        log_probs = scaled.log_softmax(-1).unflatten(-1, held.shape[1:]).logsumexp(-1)
        if "judge" not in weights.task:
            return Categorical(log_probs)
        found = unknown.inputs(scores, unknown.sketched_leverage(weights.task, lifted))
        return Categorical(log_probs, unknown=unknown.probability(weights.task["judge"], found))


def class_scores(
    weights: TaskWeights, lifted: Float[Tensor, "batch query f"], held: Bool[Tensor, "batch task way"]
) -> Float[Tensor, "batch query classes"]:
    """Of every class of every task, padding at -inf."""
    scores = torch.einsum("bqf,btkf->bqtk", lifted, weights.rows["row"]) + weights.rows["bias"][:, None]
    return scores.masked_fill(~held[:, None], -torch.inf).flatten(2)


def _mine(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name[len(PREFIX) :]: value for name, value in tensors.items() if name.startswith(PREFIX)}


def _rows(solution: Solution, names: list[str], labels: Mapping[str, tuple[str, ...]]) -> dict[str, Tensor]:
    """Rows in the order of registration; they were solved in that of names."""
    ways = [len(labels[name]) for name in names]
    rows = dict(zip(names, solution.rows.float().split(ways), strict=True))
    bias = dict(zip(names, solution.bias.float().split(ways), strict=True))
    return {
        "row": torch.cat([rows[name] for name in labels]),
        "bias": torch.cat([bias[name] for name in labels]),
    }


def _scale(solution: Solution, samples: list[unknown.Sample], parts: list[dict[str, Tensor]]) -> Tensor:
    """The inverse temperature at which examples, each as if it had been left out, are most likely."""
    few = [sample.thinned(max(4, _SAMPLES // len(samples))) for sample in samples]
    all_of = unknown.together(few, parts)
    return temperature(solution.left_out(all_of.features, all_of.y)[0], all_of.y).reshape(1)
