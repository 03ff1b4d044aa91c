"""Prototypical networks (Snell, Swersky, Zemel 2017, 1703.05175).

Prototype c_k = mean of f(x) over the shots of class k; logits = −‖f(q) − c_k‖² (squared Euclidean), here
divided by a calibrated temperature. Task weights: a prototype and a number of shots per class row.
Any way, any shot, and adding examples is a running sum. Deterministic: there is no epistemic part.

`metric="auto"` is for vectors of unknown origin: each support set chooses between Euclidean and cosine
distance by leave-one-out likelihood, and distances are measured in units of its own prototypes' distances.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Bool, Float
from pydantic import BaseModel, ConfigDict
from torch import Tensor
from torch.nn import functional as F

from models.bayes.calibration import task_terms
from models.encoder_protocol import Encoder
from models.fewshot.common.classification import (
    Classifier,
    answer_losses,
    class_members,
    class_sums,
    cross_entropy,
    split_distances,
    squared_distances,
)
from models.fewshot.common.magnitudes import magnitude, unit_vectors
from models.noise import Noise, content_key
from models.predictive import Categorical
from models.protocol import Episodes, Losses, Support, TaskWeights, Traits, refuse_prior

_LEAVE_ONE_OUT_SCALE = 10.0
"""Inverse temperature, in units of the mean distance between prototypes, at which metrics are compared."""
_MOST_TESTED = 2048
"""Examples of a task that choose its metric; a support set may hold many more."""
_LEAST_DISTANCE = 1e-12
"""Least mean distance of prototypes that counts, in units of their squared norms, where these are below 1."""
_EVEN_NORMS = 0.1
"""Relative spread of norms (standard deviation over mean) below which vectors were normalised at their source."""


class ProtoNetConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: Literal["euclidean", "cosine", "auto"] = "euclidean"


class ProtoNet(Classifier):
    Config = ProtoNetConfig
    config: ProtoNetConfig

    def __init__(self, encoder: Encoder, config: ProtoNetConfig) -> None:
        super().__init__(encoder, config)
        self.traits = Traits(incremental=config.metric != "auto", representation="embedding")

    def adapt(self, support: Support, prior: TaskWeights | None = None) -> TaskWeights:
        if not self.traits.incremental:
            refuse_prior(prior)
        sums, shots = class_sums(support, support.features)
        if prior is not None:
            old_way = prior.class_key.shape[1]
            sums[:, :old_way] += prior.rows["prototype"] * prior.rows["shots"][..., None]
            shots[:, :old_way] += prior.rows["shots"]
        prototypes = sums / shots.clamp_min(1)[..., None]
        if self.config.metric == "auto":
            cosine = self._prefers_cosine(support, prototypes, shots)
        else:
            cosine = torch.full_like(shots[:, 0], self.config.metric == "cosine", dtype=torch.bool)
        scale, evenness = self._separation(prototypes, cosine, support.class_mask)
        terms = task_terms(support.n_way, shots, F.pad(evenness[:, None], (0, 1)))
        return TaskWeights(
            task={"cosine": cosine.to(shots), "scale": scale, "terms": terms},
            rows={"prototype": prototypes, "shots": shots},
            n_way=support.n_way,
            class_key=support.class_key,
            seed=support.seed,
        )

    def predict(
        self, weights: TaskWeights, features: Float[Tensor, "tasks query d"], noise: Noise | None = None
    ) -> Categorical:
        cosine, terms = weights.task["cosine"] > 0, weights.task["terms"]
        query, rows = _in_metric(features, cosine), _in_metric(weights.rows["prototype"], cosine)
        sharpness = weights.task["scale"] * self.calibration.inverse_temperature(terms)
        closeness, norm = split_distances(query, rows)
        closeness = closeness.masked_fill(~weights.class_mask[:, None], -torch.inf)
        logits = closeness * sharpness[:, None, None]
        novelty = (norm - closeness.amax(-1)).clamp_min(0) * sharpness[:, None]
        return Categorical(
            logits.log_softmax(-1),
            unknown=self.calibration.unknown(novelty, terms),
            set_levels=self.calibration.set_levels(terms),
            novelty=novelty,
        )

    def loss(self, episodes: Episodes, progress: float) -> Losses:
        return answer_losses(self, episodes)

    def _separation(
        self,
        prototypes: Float[Tensor, "tasks way d"],
        cosine: Bool[Tensor, "tasks"],
        present: Bool[Tensor, "tasks way"],
    ) -> tuple[Float[Tensor, "tasks"], Float[Tensor, "tasks"]]:
        """Return each task's unit of distance and the unevenness of its distances; (1, 0) unless metric is auto."""
        if self.config.metric != "auto":
            one = prototypes.new_ones(len(prototypes))
            return one, one - 1
        rows = _in_metric(prototypes, cosine)
        pairs = (
            present[:, :, None]
            & present[:, None]
            & ~torch.eye(present.shape[1], dtype=torch.bool, device=present.device)
        )
        count = pairs.sum((1, 2)).clamp_min(1)
        distances = squared_distances(rows, rows) * pairs
        mean = distances.sum((1, 2)) / count
        size = magnitude(mean)
        excess = (distances - mean[:, None, None]) / size[:, None, None]
        deviation = ((excess.square() * pairs).sum((1, 2)) / count).sqrt()
        unit = mean.maximum(_LEAST_DISTANCE * _mean_square(rows, present))
        differ = ((rows != rows[:, :1]).any(-1) & present).any(1)
        lost = differ & (mean < torch.finfo(mean.dtype).tiny)
        # Infinite weights are refused; a small unit would make answers uniform.
        scale = (1 / unit).masked_fill(lost, torch.inf)
        return scale, (deviation / (unit / size)).clamp(0.05, 2).log()

    def _prefers_cosine(
        self,
        support: Support,
        prototypes: Float[Tensor, "tasks way d"],
        shots: Float[Tensor, "tasks way"],
    ) -> Bool[Tensor, "tasks"]:
        """Decide by leave-one-out likelihood, or by evenness of the norms if no class has two examples."""
        norms = torch.where(support.mask, support.features.norm(dim=-1), torch.nan)
        mean = norms.nanmean(1)
        deviation = (norms - mean[:, None]).square().nanmean(1).sqrt()
        tested = _bounded(support)
        losses = [self._leave_one_out(tested, prototypes, shots, cosine) for cosine in (False, True)]
        even = deviation < _EVEN_NORMS * mean
        testable = (shots > 1).any(1)
        return torch.where(testable, losses[1] < losses[0], even)

    def _leave_one_out(
        self,
        support: Support,
        prototypes: Float[Tensor, "tasks way d"],
        shots: Float[Tensor, "tasks way"],
        cosine: bool,
    ) -> Float[Tensor, "tasks"]:
        """Return the mean loss of each example under prototypes without it, over classes of two examples or more.

        `support` may hold a part of the examples of `prototypes` and `shots`.
        """
        metric = torch.full_like(shots[:, 0], cosine, dtype=torch.bool)
        scale, _ = self._separation(prototypes, metric, support.class_mask)
        member = class_members(support)
        own_shots, own_row = member @ shots[..., None], member @ prototypes
        others = (own_row * own_shots - support.features) / (own_shots - 1).clamp_min(1)
        x, rows = _in_metric(support.features, metric), _in_metric(prototypes, metric)
        to_own = (x - _in_metric(others, metric)).square().sum(-1, keepdim=True)
        distances = torch.where(member > 0, to_own, squared_distances(x, rows))
        logits = -_LEAVE_ONE_OUT_SCALE * scale[:, None, None] * distances
        logits = logits.masked_fill(~support.class_mask[:, None], -torch.inf)
        tested = support.mask & (own_shots[..., 0] > 1)
        assert support.targets is not None
        return cross_entropy(logits.log_softmax(-1), support.targets, tested)


def _bounded(support: Support) -> Support:
    """Choose at most `_MOST_TESTED` examples of each task by their content, so that order does not matter."""
    if support.features.shape[1] <= _MOST_TESTED:
        return support
    key = content_key(support.features).masked_fill(~support.mask, torch.iinfo(torch.int64).max)
    chosen = key.topk(_MOST_TESTED, largest=False).indices
    assert support.targets is not None
    return replace(
        support,
        features=torch.take_along_dim(support.features, chosen[..., None], 1),
        targets=support.targets.gather(1, chosen),
        mask=support.mask.gather(1, chosen),
    )


def _mean_square(
    rows: Float[Tensor, "tasks way d"], present: Bool[Tensor, "tasks way"]
) -> Float[Tensor, "tasks"]:
    """Return the mean squared norm of the rows, at most 1; 1 if all are 0."""
    squares = (rows.square().sum(-1) * present).sum(1) / present.sum(1)
    return torch.where(squares == 0, 1.0, squares).clamp_max(1)


def _in_metric(x: Float[Tensor, "tasks m d"], cosine: Bool[Tensor, "tasks"]) -> Float[Tensor, "tasks m d"]:
    """Return unit vectors if the task's metric is cosine: squared distance is then 2(1 − cos)."""
    if not bool(cosine.any()):
        return x
    return torch.where(cosine[:, None, None], unit_vectors(x), x)
