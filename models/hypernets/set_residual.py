"""A permutation-equivariant residual on class posteriors: attention across the class tokens of a task.

Set transformer blocks (Lee et al. 2019, 1810.00825) without inducing points, LayerScale (Touvron et al. 2021,
2103.17239) so that it starts near 0. Its outputs are bounded: a shift in units of the posterior's own
standard deviation, and a factor on that deviation.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

_START = 1e-3
MAX_SHIFT = 2.0
MAX_LOG_FACTOR = 1.0


class SetResidual(nn.Module):
    """The residual of all classes of a task."""

    def __init__(self, dim: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.enter = nn.Linear(dim + 1, width)
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, dim + 1)
        nn.init.trunc_normal_(self.leave.weight, std=_START)
        nn.init.zeros_(self.leave.bias)

    def forward(
        self,
        tokens: Float[Tensor, "tasks way d"],
        log_shot: Float[Tensor, "tasks way"],
        present: Bool[Tensor, "tasks way"],
    ) -> tuple[Float[Tensor, "tasks way d"], Float[Tensor, "tasks way"]]:
        """Return the shift in posterior standard deviations, and the log factor of the posterior variance."""
        x = self.enter(torch.cat((tokens, log_shot[..., None]), dim=-1))
        for block in self.blocks:
            x = block(x, present)
        shift, factor = self.leave(self.norm(x)).split((tokens.shape[-1], 1), dim=-1)
        bounded_shift = MAX_SHIFT * torch.tanh(shift / MAX_SHIFT)
        return bounded_shift, MAX_LOG_FACTOR * torch.tanh(factor[..., 0] / MAX_LOG_FACTOR)


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.join = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.scale_1 = nn.Parameter(torch.full((width,), _START))
        self.scale_2 = nn.Parameter(torch.full((width,), _START))

    def forward(
        self, x: Float[Tensor, "tasks way width"], present: Bool[Tensor, "tasks way"]
    ) -> Float[Tensor, "tasks way width"]:
        tasks, way, width = x.shape
        q, k, v = self.qkv(self.norm_1(x)).view(tasks, way, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=present[:, None, None])
        x = x + self.scale_1 * self.join(mixed.transpose(1, 2).reshape(tasks, way, width))
        out: Tensor = x + self.scale_2 * self.mlp(self.norm_2(x))
        return out
