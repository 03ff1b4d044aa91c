"""Base and helpers of the learners of functions: support targets are values, not classes; the encoder is `identity`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from jaxtyping import Bool, Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from models.bayes.shot_noise import ShotNoise
from models.encoder_protocol import Encoder
from models.protocol import Episodes, LearnerError, MetaLearner, Span, Support, TaskWeights, Trial

NO_WAYS = Span(0, 0)
"""A function has no classes."""
LARGEST = 1e6
"""Larger inputs are cut to this: a network's outputs for them would leave the range of float32."""


class ValueConfig(BaseModel):
    """Base of the configuration of learners of functions of vectors of one length."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dim: int = Field(default=1, ge=1, le=4096)
    """Numbers of an input."""
    target: int = Field(default=1, ge=1, le=4096)
    """Numbers of an answer."""


class Regressor(MetaLearner):
    """Base of learners of functions: their answers are `Gaussian`."""

    trial = Trial(
        tasks="curves", encoder="identity", encoder_hparams={"dim": 1}, steps=250, lr=5e-3, floor=0.3
    )
    noise: ShotNoise | None
    """Fitted to the errors on validation tasks; None if answers come with a variance of their own."""
    inflation: ShotNoise | None
    """A factor on the variance, fitted on validation tasks; None if answers are not corrected."""
    dim: int | None
    """Numbers of an input, None if any."""
    target: int | None
    """Numbers of an answer, None if any."""

    def __init__(self, encoder: Encoder, config: BaseModel) -> None:
        """Take the lengths from a `ValueConfig`. Raises `LearnerError` if the encoder's features have another."""
        super().__init__(encoder, config)
        self.noise = self.inflation = None
        self.dim = config.dim if isinstance(config, ValueConfig) else None
        self.target = config.target if isinstance(config, ValueConfig) else None
        if self.dim is not None and encoder.dim not in (None, self.dim):
            raise LearnerError(f"the encoder gives {encoder.dim} numbers, the learner takes {self.dim} (dim)")

    def takes(self, dim: int | None, target: int) -> bool:
        """Return True for functions from `dim` numbers, None for any, to `target` numbers."""
        return self.dim in (None, dim) and self.target in (None, target)

    def embed(self, x: Float[Tensor, "n *input"]) -> Float[Tensor, "n d"]:
        features: Tensor = self.encoder(x)
        return features.clamp(-LARGEST, LARGEST)


@dataclass(frozen=True)
class Functions:
    """Episodes of functions after the encoder; padding is 0."""

    support: Support
    query: Float[Tensor, "tasks query d"]
    target: Float[Tensor, "tasks query target"]
    real: Bool[Tensor, "tasks query"]


def functions_of(embed: Callable[[Tensor], Tensor], episodes: Episodes) -> Functions:
    """Embed episodes of functions."""
    assert episodes.support_y is not None
    support = Support.of(
        embed(episodes.support_x.flatten(0, 1)).unflatten(0, episodes.support_mask.shape),
        episodes.support_y,
        mask=episodes.support_mask,
        seed=episodes.seed,
    )
    query = embed(episodes.query_x.flatten(0, 1)).unflatten(0, episodes.query_mask.shape)
    real = episodes.query_mask
    return Functions(without_padding(support), _zeroed(query, real), _zeroed(episodes.query_y, real), real)


def without_padding(support: Support) -> Support:
    """Set padding to 0, so that its content cannot spread."""
    assert support.targets is not None
    features, targets = _zeroed(support.features, support.mask), _zeroed(support.targets, support.mask)
    return replace(support, features=features, targets=targets)


def _zeroed(values: Float[Tensor, "tasks n d"], real: Bool[Tensor, "tasks n"]) -> Float[Tensor, "tasks n d"]:
    return values.masked_fill(~real[..., None], 0)


def mean_over(values: Float[Tensor, "tasks n"], real: Bool[Tensor, "tasks n"]) -> Float[Tensor, "tasks"]:
    """Return the mean over the real entries of each task; 0 if there is none."""
    return torch.where(real, values, 0.0).sum(1) / real.sum(1).clamp_min(1)


def squared_error(
    answer: Float[Tensor, "tasks n target"],
    target: Float[Tensor, "tasks n target"],
    real: Bool[Tensor, "tasks n"],
) -> Float[Tensor, "tasks"]:
    """Return the mean over the real points of each task and over the numbers of a target."""
    return mean_over((answer - target).square().mean(-1), real)


def task_weights(support: Support, **tensors: Tensor) -> TaskWeights:
    """Return task weights without class rows. Raises `LearnerError` if a number is not finite."""
    if not all(bool(value.isfinite().all()) for value in tensors.values()):
        raise LearnerError("this support set leads to numbers that are not finite: its values are too large")
    return TaskWeights(tensors, {}, support.n_way, support.class_key, support.seed)


def perceptron(widths: Sequence[int], activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Return linear layers of these widths with an activation between them, none after the last."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), activation()]
    return nn.Sequential(*layers[:-1])
