"""Amortised Gaussian process regression: a hypernetwork writes the kernel of each task, the posterior is exact.

    θ₀ = g(support set);    θ = argmax log p(y | X, θ) + log N(θ | θ₀, τ²), by a few steps
    y | x ~ N(kᵀα, k** − kᵀK⁻¹k + σ²),    α = K⁻¹y

Inputs and targets are scaled to mean 0 and deviation 1 over the support set, so units do not matter. The network g is
trained to maximise the likelihood of queries (`models/fewshot/common/kernel_network.py`), the kernel is a sum of RBF,
Matérn-3/2, line and constant (`models/fewshot/common/gaussian_process.py`). Each number of the target has a kernel of
its own, unless that would take more than `_MOST_WORDS`: then all share one. Both variances are multiplied by a factor
for the number of examples, fitted on validation functions (`inflation`).

Task weights: the scaled support inputs (float32), α, the packed Cholesky factor of K (float64: n²/2 numbers for each
kernel, 4 MB at 1,000 examples), the kernel and the scales. Examples are stored in an order of their own, by a hash, so
that their order in the request changes nothing; their number is rounded up to a few sizes, so that tasks batch.
Aleatoric is the noise, epistemic the variance of the function: its posterior is exact given θ.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from models.bayes.shot_noise import ShotNoise
from models.encoder_protocol import Encoder
from models.fewshot.common.gaussian_process import (
    Examples,
    Kernel,
    Steps,
    factorised,
    posterior,
    refine,
)
from models.fewshot.common.kernel_network import KernelNetwork
from models.fewshot.common.regression import (
    NO_WAYS,
    Regressor,
    functions_of,
    mean_over,
    squared_error,
    task_weights,
    without_padding,
)
from models.noise import Noise
from models.predictive import Gaussian
from models.protocol import (
    Episodes,
    LearnerError,
    Losses,
    Span,
    Support,
    TaskWeights,
    Traits,
    UnsupportedSupportError,
    refuse_prior,
)

MOST_EXAMPLES = 1_000
_SIZES = (4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, MOST_EXAMPLES)
_MOST_WORDS = 1 << 21
"""Words of the factors of a task: 16 MB, four kernels at 1,000 examples."""
_CONSTANT = 1e-9
"""Values of a smaller deviation, over their size, are constant: what remains of one value is rounding."""
_LARGEST_DEVIATION = 1e17
_LARGEST, _SMALLEST = 1e38, 1e-38
"""Bounds of what is answered: beyond, there are no variances in 32-bit floats."""
_CEILING = 5.0
_MANY = 64
_PLAIN = 0.3
"""Share of the training in which the loss is that of the hypernetwork's own hyper-parameters."""


class GaussianProcessConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    width: int = Field(default=64, ge=4, le=1024)
    """Width of the hypernetwork."""
    steps: int = Field(default=10, ge=0, le=200)
    """Steps of refinement in `adapt`."""
    many_steps: int = Field(default=40, ge=0, le=200)
    """Steps of refinement from `_MANY` examples on."""
    trained_steps: int = Field(default=3, ge=0, le=200)
    """Steps of refinement in the loss, once `_PLAIN` of the training is done."""
    rate: float = Field(default=0.6, gt=0, le=2)
    """Length of the first steps in `adapt`, in logarithms of hyper-parameters."""
    trained_rate: float = Field(default=0.4, gt=0, le=2)
    """Length of the first steps in the loss, of which there are fewer."""
    prior_deviation: float = Field(default=1.0, gt=0)
    """τ: how far the steps may lead from what the hypernetwork says."""
    refined_on: int = Field(default=256, ge=1, le=MOST_EXAMPLES)
    """Examples that these steps see."""
    full_steps: int = Field(default=8, ge=0, le=200)
    """Further steps that see all examples, if there are more."""


@dataclass(frozen=True)
class GaussianProcessWeights(TaskWeights):
    """Weights that are cut to the size of a task when they leave the batch."""

    def select(self, index: int) -> GaussianProcessWeights:
        """Return the weights of one task, with no more padding than a task of its size has alone."""
        one = super().select(index)
        size = _size(int(one.task["count"][0]))
        words = size * (size + 1) // 2
        cut = {
            "x": one.task["x"][:, :size],
            "alpha": one.task["alpha"][:, :size],
            "factor": one.task["factor"][:, :, :words],
        }
        return replace(self, **vars(one) | {"task": {**one.task, **cut}})


@dataclass(frozen=True)
class _Scaled:
    """Support sets in units of their own."""

    x: Float[Tensor, "tasks n dim"]
    y: Float[Tensor, "tasks n target"]
    mask: Float[Tensor, "tasks n"]
    x_units: Float[Tensor, "tasks 2 dim"]
    """Mean and deviation of each column."""
    y_units: Float[Tensor, "tasks 2 target"]


class GaussianProcessLearner(Regressor):
    Config = GaussianProcessConfig
    trial = replace(
        Regressor.trial, hparams={"width": 16, "steps": 2, "trained_steps": 1}, steps=60, lr=1e-2, floor=0.4
    )
    config: GaussianProcessConfig
    inflation: ShotNoise
    traits = Traits(
        ways=NO_WAYS,
        shots=Span(1, MOST_EXAMPLES),
        exact_posterior=True,
        kind="regression",
        representation="feed-forward",
    )

    def __init__(self, encoder: Encoder, config: GaussianProcessConfig) -> None:
        super().__init__(encoder, config)
        self.network = KernelNetwork(config.width)
        self.inflation = ShotNoise(1)

    def embed(self, x: Float[Tensor, "n *input"]) -> Float[Tensor, "n d"]:
        features: Tensor = self.encoder(x)
        return features

    def adapt(self, support: Support, prior: TaskWeights | None = None) -> GaussianProcessWeights:
        """Write and refine the kernels, and factorise.

        Raises `UnsupportedSupportError` for more than `MOST_EXAMPLES`, `LearnerError` for values that are too large.
        """
        refuse_prior(prior)
        scaled = _scaled(_sorted(without_padding(support)))
        groups = _groups(scaled)
        data = _apart(scaled, groups)
        kernel = self._refined(self.network(data), data)
        factor = factorised(kernel, data)
        alpha = torch.cholesky_solve(data.y, factor)
        tasks, count, dim = scaled.x.shape
        alpha = alpha.view(tasks, groups, count, -1).transpose(1, 2).reshape(tasks, count, -1)
        size = _size(count)
        return _weights(
            support,
            x=_padded(scaled.x.float(), size),
            alpha=_padded(alpha, size),
            factor=_packed(factor, size).view(tasks, groups, -1),
            columns=kernel.columns.view(tasks, groups, 2, dim),
            parts=kernel.parts.view(tasks, groups, -1),
            x_units=scaled.x_units,
            y_units=scaled.y_units,
            count=scaled.mask.sum(1),
        )

    def predict(
        self, weights: TaskWeights, features: Float[Tensor, "tasks query d"], noise: Noise | None = None
    ) -> Gaussian:
        task = weights.task
        tasks, size, _ = task["x"].shape
        groups = task["parts"].shape[1]
        kernel = Kernel(task["columns"].flatten(0, 1), task["parts"].flatten(0, 1))
        mask = (torch.arange(size, device=features.device) < task["count"][:, None]).double()
        query = _in_units(features, task["x_units"])
        alpha = task["alpha"].view(tasks, size, groups, -1).transpose(1, 2)
        mean, variance = posterior(
            kernel,
            task["x"].double().repeat_interleave(groups, 0),
            alpha.reshape(tasks * groups, size, -1),
            _unpacked(task["factor"].flatten(0, 1), size),
            mask.repeat_interleave(groups, 0),
            query.repeat_interleave(groups, 0),
        )
        queries, each = features.shape[1], alpha.shape[-1]
        mean = mean.view(tasks, groups, queries, each).transpose(1, 2).flatten(2)
        centre, deviation = task["y_units"][:, :, None].unbind(1)
        scale = deviation.square() * self.inflation(task["count"])[:, None]

        def of_targets(values: Tensor) -> Tensor:
            spread = values.view(tasks, groups, -1, 1).expand(-1, -1, queries, each)
            scaled: Tensor = spread.transpose(1, 2).flatten(2) * scale
            return _answerable(scaled).clamp_min(_SMALLEST).float()

        answer = _answerable(mean * deviation + centre).float()
        return Gaussian(answer, of_targets(kernel.noise), of_targets(variance))

    def loss(self, episodes: Episodes, progress: float) -> Losses:
        """Return the −log likelihood of a query in nats, in units of the support set.

        The derivative of refined hyper-parameters by the start is taken for the identity. What exceeds `_CEILING`
        nats counts by its logarithm.
        """
        data = functions_of(self.embed, episodes)
        scaled = _scaled(_sorted(data.support))
        groups = scaled.y.shape[2]
        apart = _apart(scaled, groups)
        kernel = self.network(apart)
        if progress >= _PLAIN:
            kernel = Kernel.of(kernel.vector + self._shift(kernel, apart))
        factor = factorised(kernel, apart)
        alpha = torch.cholesky_solve(apart.y, factor)
        query = _in_units(data.query, scaled.x_units)
        mean, variance = posterior(
            kernel, apart.x, alpha, factor, apart.mask, query.repeat_interleave(groups, 0)
        )
        tasks = len(scaled.x)
        mean = mean[..., 0].view(tasks, groups, -1).transpose(1, 2)
        total = (variance + kernel.noise[:, None]).view(tasks, groups, -1).transpose(1, 2)
        target = _in_units(data.target, scaled.y_units)
        each = -Gaussian(mean, total).log_prob(target)
        above = (each - _CEILING).clamp_min(0)
        nll = mean_over(each - above + above.log1p(), data.real)
        error = squared_error(mean, target, data.real)
        return Losses(nll, {"nll": mean_over(each, data.real).detach(), "mse": error.detach()})

    @torch.no_grad()
    def _shift(self, start: Kernel, data: Examples) -> Float[Tensor, "batch size"]:
        """Return the way that refinement leads from the start."""
        config = self.config
        counts = torch.full((len(data.x),), config.trained_steps, device=data.x.device)
        steps = Steps(counts, config.trained_rate, config.prior_deviation)
        return refine(start, data, steps).vector - start.vector

    def _refined(self, kernel: Kernel, data: Examples) -> Kernel:
        config, count = self.config, data.mask.sum(1)
        # By the examples of each task: what a task gets must not depend on its batch.
        counts = torch.where(count < _MANY, config.steps, config.many_steps)
        steps = Steps(counts, config.rate, config.prior_deviation)
        refined = refine(kernel, data.first(config.refined_on), steps)
        further = torch.where(count > config.refined_on, config.full_steps, 0)
        if not bool(further.any()):
            return refined
        return refine(refined, data, Steps(further, config.rate / 2, config.prior_deviation), centre=kernel)


def _weights(support: Support, **tensors: Tensor) -> GaussianProcessWeights:
    return GaussianProcessWeights(**vars(task_weights(support, **tensors)))


def _size(count: int) -> int:
    """Return the size that weights of so many examples have. Raises `UnsupportedSupportError` for too many."""
    if count > MOST_EXAMPLES:
        raise UnsupportedSupportError(f"{count} examples, at most {MOST_EXAMPLES} are taken")
    return _SIZES[bisect.bisect_left(_SIZES, count)]


def _groups(scaled: _Scaled) -> int:
    """Return the number of kernels of a task: one for each number of the target, or one in all."""
    size, target = _size(scaled.x.shape[1]), scaled.y.shape[2]
    return target if target * size * (size + 1) // 2 <= _MOST_WORDS else 1


def _apart(scaled: _Scaled, groups: int) -> Examples:
    """Return each group of targets as a task of its own."""
    tasks, count, _ = scaled.y.shape
    y = scaled.y.view(tasks, count, groups, -1).transpose(1, 2).reshape(tasks * groups, count, -1)
    return Examples(scaled.x.repeat_interleave(groups, 0), y, scaled.mask.repeat_interleave(groups, 0))


def _sorted(support: Support) -> Support:
    """Return the examples of each task in the order of their hashes, padding last."""
    assert support.targets is not None
    keys = _hashes(support.features, 0x9E3779B97F4A7C1) + _hashes(support.targets, 0x2545F4914F6CDD1D)
    # Non-negative, so that padding is last.
    keys = torch.where(support.mask, (keys ^ (keys >> 31)) & (2**62 - 1), 2**62)
    order = keys.argsort(dim=1, stable=True)
    at = order[..., None]
    return replace(
        support,
        features=support.features.gather(1, at.expand(-1, -1, support.features.shape[2])),
        targets=support.targets.gather(1, at.expand(-1, -1, support.targets.shape[2])),
        mask=support.mask.gather(1, order),
    )


def _hashes(values: Float[Tensor, "tasks n d"], odd: int) -> Int[Tensor, "tasks n"]:
    # + 0 turns −0 into 0.
    bits = (values.float() + 0.0).contiguous().view(torch.int32).long()
    place = 2 * torch.arange(values.shape[2], device=values.device) + 1
    mixed = bits * odd
    mixed = (mixed ^ (mixed >> 29)) * place
    return (mixed ^ (mixed >> 32)).sum(2)


def _scaled(support: Support) -> _Scaled:
    """Scale inputs and targets by the support set. Raises `LearnerError` for targets that are too large."""
    assert support.targets is not None
    mask = support.mask.double()
    x, y = support.features.double(), support.targets.double()
    x_units, y_units = _units(x, mask), _units(y, mask)
    if bool((y_units[:, 1] > _LARGEST_DEVIATION).any()):
        raise LearnerError(
            f"targets that vary by more than {_LARGEST_DEVIATION:g} have no variance in 32-bit floats"
        )
    # Rounded as they are stored, so that the factor is that of the stored examples.
    x = (_in_units(x, x_units) * mask[..., None]).float().double()
    return _Scaled(x, _in_units(y, y_units) * mask[..., None], mask, x_units, y_units)


def _units(values: Float[Tensor, "tasks n d"], mask: Float[Tensor, "tasks n"]) -> Float[Tensor, "tasks 2 d"]:
    """Return mean and deviation of each column; a constant is taken to vary by its size, 0 by 1."""
    count = mask.sum(1)[:, None]
    mean = values.sum(1) / count
    centred = (values - mean[:, None]) * mask[..., None]
    deviation = (centred.square().sum(1) / count).sqrt()
    size = mean.abs()
    size = torch.where(size > 0, size, 1.0)
    deviation = torch.where(deviation > _CONSTANT * size, deviation, size)
    return torch.stack((mean, deviation.clamp_min(1e-30)), dim=1)


def _answerable(values: Tensor) -> Tensor:
    """Return values with NaN in place of those that a 32-bit float cannot hold, which servers refuse."""
    return values.masked_fill(~(values.abs() <= _LARGEST), torch.nan)


def _in_units(
    values: Float[Tensor, "tasks n d"], units: Float[Tensor, "tasks 2 d"]
) -> Float[Tensor, "tasks n d"]:
    mean, deviation = units[:, :, None].unbind(1)
    return (values.double() - mean) / deviation


def _padded(values: Float[Tensor, "tasks n d"], size: int) -> Float[Tensor, "tasks size d"]:
    return torch.nn.functional.pad(values, (0, 0, 0, size - values.shape[1]))


def _packed(factor: Float[Tensor, "batch n n"], size: int) -> Float[Tensor, "batch words"]:
    """Return the lower triangle row by row, as the factor of `size` examples: 1 on the diagonal of the padding."""
    count = factor.shape[1]
    rows, columns = torch.tril_indices(count, count, device=factor.device)
    missing = torch.arange(count, size, device=factor.device)
    rest = factor.new_zeros(len(factor), (size * (size + 1) - count * (count + 1)) // 2)
    rest[:, missing * (missing + 3) // 2 - count * (count + 1) // 2] = 1
    return torch.cat((factor[:, rows, columns], rest), dim=1)


def _unpacked(packed: Float[Tensor, "batch words"], size: int) -> Float[Tensor, "batch n n"]:
    rows, columns = torch.tril_indices(size, size, device=packed.device)
    factor = packed.new_zeros(len(packed), size, size)
    factor[:, rows, columns] = packed
    return factor
