"""The target networks that hypernetworks write, as single networks: what they are compared with has the same shape."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from experiments.continual.baselines.base import Setting
from experiments.continual.baselines.network import FlatNetwork, Network
from models.continual.target_networks import Target, head, target

_FISHER_EXAMPLES = 1000


class TargetNetwork(FlatNetwork):
    """Body and head as in `Target`, with the variances at the start that a target asks for. Inputs are flattened
    pictures."""

    at_once: ClassVar[int] = 250

    def __init__(
        self,
        body: Target,
        shape: tuple[int, ...],
        outputs: int,
        generator: torch.Generator,
        device: torch.device | str = "cpu",
    ) -> None:
        drawn = torch.empty(body.size(outputs)).normal_(generator=generator)
        super().__init__(drawn.mul_(body.variance(outputs).sqrt()).to(device))
        self.body, self.shape, self.outputs = body, shape, outputs

    def __call__(self, x: Float[Tensor, "n enter"]) -> Float[Tensor, "n leave"]:
        body, rows = self.flat[None].split([self.body.body, len(self.flat) - self.body.body], 1)
        features = self.body.features(body, x.view(1, len(x), *self.shape))
        return head(rows.unflatten(1, (self.outputs, -1)), features)[0]

    def copy(self) -> TargetNetwork:
        found = TargetNetwork(self.body, self.shape, self.outputs, torch.Generator(), self.flat.device)
        with torch.no_grad():
            found.flat.copy_(self.flat)
        found.flat.requires_grad_(False)
        return found

    def fisher(
        self, x: Float[Tensor, "n enter"], y: Int[Tensor, "n"], active: slice
    ) -> Float[Tensor, "parameters"]:
        """Of at most 1,000 examples, evenly spaced: each needs a pass of its own."""
        rows = torch.linspace(0, len(y) - 1, min(len(y), _FISHER_EXAMPLES)).long()
        total = torch.zeros_like(self.grad)
        for row in rows.split(1):
            loss = F.cross_entropy(self(x[row])[:, active], y[row])
            (found,) = torch.autograd.grad(loss, self.flat)
            total.addcmul_(found, found)
        return total / len(rows)


def main_network(setting: Setting, generator: torch.Generator) -> FlatNetwork:
    """With outputs as the scenario has them. Raises `LearnerError` where the target takes no such inputs."""
    if setting.target == "mlp":
        return Network((setting.inputs, *setting.hidden, setting.outputs), generator, setting.device)
    body = target(setting.target, setting.shape, setting.hidden)
    return TargetNetwork(body, setting.shape, setting.outputs, generator, setting.device)
