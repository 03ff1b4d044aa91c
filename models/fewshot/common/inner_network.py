"""A network whose own weights adapt: called with the weights of a task, and with BatchNorm statistics of its support.

MAML's authors let BatchNorm use the statistics of the current batch, so that an answer depends on its neighbours.
Here those of the support set are measured and belong to the task's weights: answers are inductive.

Under given statistics BatchNorm is affine, and is folded into the convolution before it: queries, which are most of
the pictures of an episode, never pay for it. Gradients still reach the statistics.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from models.augmentation import Augmentation
from models.encoder_protocol import Encoder
from models.fewshot.common.inner_loop import FastWeights
from models.inputs import InputSpec
from models.protocol import LearnerError

_OWN, _MEASURED = (0,), (0, 0)
"""Shapes of placeholders for statistics: use those of the batch, or use and record them."""


class SupportNorm(nn.Module):
    """BatchNorm with given statistics, or with those of the batch."""

    mean: Tensor
    var: Tensor

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps
        for name in ("mean", "var"):
            self.register_buffer(name, norm.weight.detach().new_empty(_OWN), persistent=False)

    @property
    def has_statistics(self) -> bool:
        return self.mean.numel() > 0

    def affine(
        self, mean: Float[Tensor, "channels"], var: Float[Tensor, "channels"]
    ) -> tuple[Float[Tensor, "channels"], Float[Tensor, "channels"]]:
        """Return scale and shift under these statistics."""
        scale = self.weight * (var + self.eps).rsqrt()
        return scale, self.bias - mean * scale

    def forward(self, x: Float[Tensor, "n channels *space"]) -> Float[Tensor, "n channels *space"]:
        # Channels last and flat, so that no derivative changes the order of memory; and in plain arithmetic, as second
        # derivatives of torch's own batch_norm are wrong under vmap (2.13).
        last = x.movedim(1, -1)
        flat = last.flatten(0, -2).to(self.weight.dtype)
        mean, var = self.mean, self.var
        if not self.has_statistics:
            mean = flat.mean(0)
            flat = flat - mean
            var = flat.square().mean(0)
            if self.mean.ndim > 1:
                # `functional_call` returns changed buffers to its caller; the module itself stores nothing.
                self.mean, self.var = mean, var
            mean = torch.zeros_like(mean)
        scale, shift = self.affine(mean, var)
        return torch.addcmul(shift, flat, scale).view(last.shape).movedim(-1, 1)


class _Folding(nn.Sequential):
    """Sequential that folds each SupportNorm with given statistics into the convolution before it."""

    def forward(self, x: Tensor) -> Tensor:
        waiting: nn.Conv2d | None = None
        for layer, after in pairwise([*self, nn.Identity()]):
            if waiting is not None and isinstance(layer, SupportNorm):
                x, waiting = _folded(waiting, layer, x), None
            elif isinstance(layer, nn.Conv2d) and isinstance(after, SupportNorm) and after.has_statistics:
                waiting = layer
            else:
                x = layer(x)
        return x


def _folded(
    conv: nn.Conv2d, norm: SupportNorm, x: Float[Tensor, "n in height width"]
) -> Float[Tensor, "n out h w"]:
    scale, shift = norm.affine(norm.mean, norm.var)
    if conv.bias is not None:
        shift = shift + conv.bias * scale
    found: Tensor = conv._conv_forward(x, conv.weight * scale.view(-1, 1, 1, 1), shift)
    return found


class InnerNetwork(Encoder):
    """Encoder that returns its inputs; `features` runs the network inside with a task's weights."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        if encoder.dim is None:
            raise LearnerError("a network that adapts needs a fixed feature length")
        self.config = encoder.config
        self.dim = encoder.dim
        self._input, self._augmentation = encoder.input_spec(), encoder.augmentation()
        self.network = _support_normed(encoder)

    def forward(self, x: Float[Tensor, "n *input"]) -> Float[Tensor, "n *input"]:
        return x

    encode = forward

    def input_spec(self) -> InputSpec:
        return self._input

    def augmentation(self) -> Augmentation | None:
        return self._augmentation

    def start(self) -> FastWeights:
        """Return the weights before any step."""
        return dict(self.network.named_parameters())

    def features(
        self, weights: FastWeights, x: Float[Tensor, "n *input"], statistics: FastWeights | None = None
    ) -> Float[Tensor, "n dim"]:
        """Return features under given statistics, or under those of `x` itself.

        Raises `RuntimeError` if a tensor is missing: the network's own would be a wrong answer.
        """
        return self._called({**(statistics or self._placeholders(_OWN, x)), **weights}, x)

    def statistics(self, weights: FastWeights, x: Float[Tensor, "n *input"]) -> FastWeights:
        """Return means and variances of `x` before every BatchNorm."""
        recorded = self._placeholders(_MEASURED, x)
        called = {**recorded, **weights}
        self._called(called, x)
        return {name: called[name] for name in recorded}

    def _called(self, tensors: FastWeights, x: Float[Tensor, "n *input"]) -> Float[Tensor, "n dim"]:
        with torch.autocast(x.device.type, self.compute_dtype, enabled=self.compute_dtype is not None):
            found: Tensor = functional_call(self.network, tensors, (x,), strict=True)
        return found.to(x.dtype)

    def _placeholders(self, shape: tuple[int, ...], x: Tensor) -> FastWeights:
        return {name: x.new_empty(shape) for name, _ in self.network.named_buffers()}


def _support_normed(module: nn.Module) -> nn.Module:
    """Replace each BatchNorm in a module by a SupportNorm; names of tensors stay."""
    for name, child in list(module.named_children()):
        setattr(module, name, _support_normed(child))
    if isinstance(module, _BatchNorm):
        return SupportNorm(module)
    if type(module) is nn.Sequential:
        return _Folding(OrderedDict(module.named_children()))
    return module
