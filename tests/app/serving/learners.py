"""Small learners with which serving is tested: real ones, and some that misbehave on request."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from app.serving.engine_types import SupportSet
from models.artifact import Artifact
from models.encoders.identity import Identity, IdentityConfig
from models.inputs import ImageInput, InputSpec, VectorInput
from models.noise import Noise, label_key
from models.predictive import Categorical, Field, Predictive
from models.protocol import (
    Episodes,
    Losses,
    MetaLearner,
    Support,
    TaskWeights,
    Traits,
    UnsupportedSupportError,
)
from models.registry import LearnerConfig, build

DIM = 6
BAD_QUERY = 1e6
"""A query that starts with this number makes `Noisy` raise."""
BAD_SUPPORT = -1e6
"""A support example that starts with this number is refused."""


class Noisy(MetaLearner):
    """Prototypes that are shifted by noise keyed by class: stochastic, ragged, and brittle on request."""

    def __init__(self) -> None:
        super().__init__(Identity(IdentityConfig()), IdentityConfig())
        self.traits = Traits(stochastic=True)
        self.embed_sizes: list[int] = []
        self.predict_sizes: list[int] = []

    def embed(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        self.embed_sizes.append(len(x))
        if (x[:, 0] == BAD_QUERY).any():
            raise RuntimeError("a query that nobody can embed")
        return x.sin()

    def adapt(self, support: Support, prior: TaskWeights | None = None) -> TaskWeights:
        assert support.targets is not None
        if (support.features[:, :, 0] == torch.tensor(BAD_SUPPORT).sin()).any():
            raise UnsupportedSupportError("a support set that this learner refuses")
        way = torch.arange(support.class_key.shape[1])
        member = ((support.targets[..., None] == way) & support.mask[..., None]).float()
        counts = member.sum(1).clamp_min(1)
        rows = member.transpose(1, 2) @ support.features / counts[..., None]
        spread = (support.features * support.mask[..., None]).sum((1, 2))
        return TaskWeights(
            task={"spread": spread.tanh(), "flag": torch.ones(len(spread), 3, dtype=torch.bool)},
            rows={"mean": rows, "count": counts.to(torch.int16)},
            n_way=support.n_way,
            class_key=support.class_key,
            seed=support.seed,
        )

    def predict(
        self,
        weights: TaskWeights,
        features: Float[Tensor, "tasks query d"],
        noise: Noise | None = None,
    ) -> Categorical:
        self.predict_sizes.append(len(features))
        assert weights.task["flag"].all()
        assert (weights.rows["count"] > 0).equal(weights.class_mask)
        logits = -torch.cdist(features, weights.rows["mean"], compute_mode="donot_use_mm_for_euclid_dist")
        logits = (logits * (2 + weights.task["spread"])[:, None, None]).masked_fill(
            ~weights.class_mask[:, None], -torch.inf
        )
        if noise is None:
            return Categorical(logits.log_softmax(-1))
        shift = noise.normal(weights.seed, weights.class_key)
        members = (logits[..., None] + shift[:, None]).log_softmax(2)
        mean = members.logsumexp(-1) - torch.tensor(float(noise.samples)).log()
        entropy = -(members.exp() * members.clamp_min(-1e4)).sum(2).mean(-1)
        return Categorical(mean, entropy, samples=noise.samples)

    def loss(self, episodes: Episodes, progress: float) -> Losses:
        raise NotImplementedError


class Sum(MetaLearner):
    """No classes at all: the weights are one vector per task, the answer is its product with the query."""

    def __init__(self) -> None:
        super().__init__(Identity(IdentityConfig()), IdentityConfig())
        self.traits = Traits(ways=replace(Traits().ways, low=0), transductive=True)

    def embed(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        return x

    def adapt(self, support: Support, prior: TaskWeights | None = None) -> TaskWeights:
        total = (support.features * support.mask[..., None]).sum(1)
        return TaskWeights({"sum": total}, {}, support.n_way, support.class_key, support.seed)

    def predict(
        self, weights: TaskWeights, features: Float[Tensor, "tasks query d"], noise: Noise | None = None
    ) -> Predictive:
        centred = features - features.mean(1, keepdim=True)
        return Field(centred * weights.task["sum"][:, None])

    def loss(self, episodes: Episodes, progress: float) -> Losses:
        raise NotImplementedError


@dataclass(frozen=True)
class Whole(Predictive):
    """An answer that cannot be cut from a batch."""

    centre: Float[Tensor, "tasks d"]

    def at(self, task: int, queries: int, way: int) -> Whole:
        raise NotImplementedError


class Uncut(Sum):
    """A learner that answers one task at a time only."""

    def predict(
        self, weights: TaskWeights, features: Float[Tensor, "tasks query d"], noise: Noise | None = None
    ) -> Predictive:
        return Whole(weights.task["sum"])


def artifact(name: str, learner: MetaLearner | None = None, spec: InputSpec | None = None) -> Artifact:
    """Return a loaded artifact around `learner`, by default an untrained ProtoNet on the spec's kind of input."""
    spec = spec or VectorInput()
    encoder = "conv4" if isinstance(spec, ImageInput) else "identity"
    config = LearnerConfig(code_version="0", method="protonet", encoder=encoder, input=spec)
    if learner is None:
        torch.manual_seed(0)
        learner = build(config)
    return Artifact(name, config, "d" * 64, learner.eval().requires_grad_(False), "", Path())


def support_set(
    way: int, shot: int = 2, dim: int = DIM, seed: int = 0, shape: tuple[int, ...] | None = None
) -> SupportSet:
    """Random examples, uneven: class k has 1 + (k + shot) % shot … `shot` of them, in mixed order."""
    rng = np.random.default_rng([way, shot, dim, seed])
    y = np.concatenate([np.arange(way), rng.integers(0, way, way * (shot - 1))]).astype(np.int64)
    x = rng.normal(size=(len(y), *(shape or (dim,)))).astype(np.float32)
    return SupportSet(x, y, tuple(f"class {seed}.{k}" for k in range(way)), seed)


def queries(count: int, dim: int = DIM, seed: int = 0, shape: tuple[int, ...] | None = None) -> np.ndarray:
    rng = np.random.default_rng([count, dim, seed, 7])
    return rng.normal(size=(count, *(shape or (dim,)))).astype(np.float32)


def expected(learner: MetaLearner, support: SupportSet, x: np.ndarray, samples: int) -> Predictive:
    """Return the answer of the learner when called directly, alone."""
    with torch.no_grad():
        features = learner.embed(torch.from_numpy(x))[None]
        weights = weights_of(learner, support)
        noise = Noise(samples) if learner.traits.stochastic and samples else None
        return learner.predict(weights, features, noise)


def weights_of(learner: MetaLearner, support: SupportSet) -> TaskWeights:
    with torch.no_grad():
        batch = Support.of(
            learner.embed(torch.from_numpy(support.x))[None],
            torch.from_numpy(support.y)[None],
            n_way=torch.tensor([len(support.classes)]),
            class_key=torch.tensor([[label_key(label) for label in support.classes]], dtype=torch.int64),
            seed=torch.tensor([support.seed]),
        )
        return learner.adapt(batch)
