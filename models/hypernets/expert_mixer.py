"""A hypernetwork over experts: from the evidence of a support set to the weight and sharpness of each expert.

A set network (Zaheer et al. 2017, 1703.06114): every expert is a token, read with what all the others show; tokens of
further sources of features are read by the same weights. The outputs scale scores that have unit root mean square.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

_NAME, _PLACE = 16, 8
_START = 1.2
"""Log sharpness before any training."""
_FARTHEST = 5.0


class ExpertMixer(nn.Module):
    """Weights and sharpnesses of `experts` per source of features, of at most `places` sources."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, experts: int, per_expert: int, per_task: int, places: int, width: int) -> None:
        super().__init__()
        self.experts = experts
        self.names = nn.Embedding(experts, _NAME)
        self.places = nn.Embedding(places, _PLACE)
        numbers = per_expert + per_task
        self.register_buffer("mean", torch.zeros(numbers))
        self.register_buffer("deviation", torch.ones(numbers))
        self.read = nn.Sequential(
            nn.Linear(numbers + _NAME + _PLACE, width), nn.GELU(), nn.Linear(width, width), nn.GELU()
        )
        self.weigh = nn.Sequential(
            nn.Linear(3 * width, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, 2)
        )
        last = self.weigh[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    @staticmethod
    def numbers(
        of_experts: Float[Tensor, "tasks experts numbers"], of_task: Float[Tensor, "tasks others"]
    ) -> Float[Tensor, "tokens inputs"]:
        """Return the inputs of all tokens of all tasks."""
        shared = of_task[:, None].expand(-1, of_experts.shape[1], -1)
        return torch.cat((of_experts, shared), dim=-1).flatten(0, 1)

    def standardise(self, numbers: Float[Tensor, "n numbers"]) -> None:
        """Take the scale of the inputs from examples."""
        self.mean.copy_(numbers.mean(0))
        self.deviation.copy_(numbers.std(0).clamp_min(0.05))

    def forward(
        self, of_experts: Float[Tensor, "tasks experts numbers"], of_task: Float[Tensor, "tasks others"]
    ) -> Float[Tensor, "tasks experts"]:
        """Return the factor of each expert's scaled scores: its weight, which add up to 1, times its sharpness."""
        tasks, tokens, _ = of_experts.shape
        numbers = self.numbers(of_experts, of_task).view(tasks, tokens, -1)
        numbers = ((numbers - self.mean) / self.deviation).clamp(-_FARTHEST, _FARTHEST)
        index = torch.arange(tokens, device=numbers.device)
        several = float(tokens > self.experts)
        named = torch.cat(
            (self.names(index % self.experts), several * self.places(index // self.experts)), dim=-1
        )
        x = self.read(torch.cat((numbers, named.expand(tasks, -1, -1)), dim=-1))
        shared = torch.cat((x.mean(1, keepdim=True), x.amax(1, keepdim=True)), dim=-1)
        out = self.weigh(torch.cat((x, shared.expand(-1, tokens, -1)), dim=-1))
        factors: Tensor = (out[..., 0].log_softmax(-1) + out[..., 1] + _START).exp()
        return factors
