"""A network whose own weights adapt: called with the weights of a task, and with BatchNorm statistics of its support.

MAML's authors let BatchNorm use the statistics of whatever batch is asked, so that an answer depends on its
neighbours. Here the support set's are measured and travel with the task's weights: answers are inductive.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from models.encoders.base import Encoder, EncoderConfig
from models.fewshot.inner_loop import Fast
from models.protocol import LearnerError


class SupportNorm(nn.Module):
    """BatchNorm that is told its statistics. Told empty ones, it measures the batch and leaves those in place."""

    mean: Tensor
    var: Tensor

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps
        for name in ("mean", "var"):
            self.register_buffer(name, norm.weight.detach().new_empty(0), persistent=False)

    def forward(self, x: Float[Tensor, "n channels *space"]) -> Float[Tensor, "n channels *space"]:
        if not self.mean.numel():
            dims = [0, *range(2, x.ndim)]
            # Seen by the caller of `functional_call`, which hands changed buffers back; the module keeps nothing.
            self.mean, self.var = x.mean(dims), x.var(dims, unbiased=False)
        scale = self.weight * (self.var + self.eps).rsqrt()
        shift = self.bias - self.mean * scale
        shape = (-1, *[1] * (x.ndim - 2))
        return x * scale.view(shape) + shift.view(shape)


class InnerNetwork(Encoder):
    """As an encoder it hands inputs on as they are; `features` runs the network inside with a task's weights."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        if encoder.dim is None:
            raise LearnerError("a network that adapts needs a fixed feature length")
        self.config = EncoderConfig()
        self.dim = encoder.dim
        for parent in list(encoder.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, _BatchNorm):
                    setattr(parent, name, SupportNorm(child))
        self.network = encoder

    def forward(self, x: Float[Tensor, "n *input"]) -> Float[Tensor, "n *input"]:
        return x

    encode = forward

    def start(self) -> Fast:
        """The weights before any step."""
        return dict(self.network.named_parameters())

    def features(
        self, weights: Fast, x: Float[Tensor, "n *input"], statistics: Fast | None = None
    ) -> tuple[Float[Tensor, "n dim"], Fast]:
        """Features, and the statistics used: those of `x` itself where None are given.

        Raises `RuntimeError` where a tensor is missing, for the network's own would be a wrong answer.
        """
        if statistics is None:
            statistics = {name: value.new_empty(0) for name, value in self.network.named_buffers()}
        called = {**statistics, **weights}
        found: Tensor = functional_call(self.network, called, (x,), strict=True)
        return found, {name: called[name] for name in statistics}
