"""Networks whose parameters and gradients are one vector each: MLPs, and the target networks of hypernetworks.

Penalties over all parameters take a few operations on vectors, and Adam steps one tensor.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.continual.baselines.continual_method import ComparisonSetting
from models.continual.target_networks import TargetArchitecture, head, target

_CHUNK = 2000


class FlatNetwork(ABC):
    """A network with parameters `flat` and their gradient `grad`, in the same order."""

    at_once: ClassVar[int] = _CHUNK
    """Inputs per batch in prediction."""

    def __init__(self, drawn: Float[Tensor, "parameters"]) -> None:
        """Start from the parameters drawn, on their device."""
        self.flat = nn.Parameter(drawn)
        self.grad = torch.zeros_like(self.flat)
        self.flat.grad = self.grad

    @abstractmethod
    def __call__(self, x: Float[Tensor, "n enter"]) -> Float[Tensor, "n leave"]: ...

    @abstractmethod
    def copy(self) -> FlatNetwork:
        """Return an independent copy without gradients."""

    @abstractmethod
    def fisher(
        self, x: Float[Tensor, "n enter"], y: Int[Tensor, "n"], active: slice
    ) -> Float[Tensor, "parameters"]:
        """Return the diagonal of the empirical Fisher matrix: the mean squared gradient of log p(y | x) over examples.

        `y` indexes the outputs `active`.
        """

    @torch.no_grad()
    def outputs_of(self, x: Float[Tensor, "n enter"]) -> Float[Tensor, "n leave"]:
        """Return outputs without gradients, batch by batch."""
        return torch.cat([self(part) for part in x.split(self.at_once)])

    def adam(self, lr: float) -> torch.optim.Adam:
        """Return a fresh optimiser of the parameters."""
        return torch.optim.Adam([self.flat], lr=lr, fused=True)


class Network(FlatNetwork):
    """An MLP of ReLU layers; `flat` holds weight and bias of each layer in order."""

    def __init__(
        self, widths: Sequence[int], generator: torch.Generator, device: torch.device | str = "cpu"
    ) -> None:
        self.widths = tuple(widths)
        pairs = list(zip(self.widths[:-1], self.widths[1:], strict=True))
        drawn = [
            torch.empty(count).uniform_(-(enter**-0.5), enter**-0.5, generator=generator)
            for enter, leave in pairs
            for count in (leave * enter, leave)
        ]
        super().__init__(torch.cat(drawn).to(device))
        self.layers: list[tuple[Tensor, Tensor]] = []
        start = 0
        for enter, leave in pairs:
            weight, start = self._view(start, (leave, enter))
            bias, start = self._view(start, (leave,))
            self.layers.append((weight, bias))

    def __call__(self, x: Float[Tensor, "n enter"]) -> Float[Tensor, "n leave"]:
        for index, (weight, bias) in enumerate(self.layers):
            x = F.linear(x if index == 0 else F.relu(x), weight, bias)
        return x

    def copy(self) -> Network:
        found = Network(self.widths, torch.Generator(), self.flat.device)
        with torch.no_grad():
            found.flat.copy_(self.flat)
        for layer in found.layers:
            for part in layer:
                part.requires_grad_(False)
        return found

    def fisher(
        self, x: Float[Tensor, "n enter"], y: Int[Tensor, "n"], active: slice
    ) -> Float[Tensor, "parameters"]:
        """Return the diagonal without a pass per example: in a layer, the gradient of one example is an outer
        product, so the sum of its squares is a matrix product."""
        total = torch.zeros_like(self.flat)
        for part_x, part_y in zip(x.split(_CHUNK), y.split(_CHUNK), strict=True):
            entered, left = [], []
            value = part_x
            for index, (weight, bias) in enumerate(self.layers):
                entered.append(value if index == 0 else F.relu(value))
                value = F.linear(entered[-1], weight, bias)
                left.append(value)
            loss = F.cross_entropy(value[:, active], part_y, reduction="sum")
            found = torch.autograd.grad(loss, left)
            squares = []
            for before, behind in zip(entered, found, strict=True):
                square = behind.square()
                squares += [(square.T @ before.detach().square()).flatten(), square.sum(0)]
            total += torch.cat(squares)
        return total / len(y)

    def _view(self, start: int, shape: tuple[int, ...]) -> tuple[Tensor, int]:
        stop = start + torch.Size(shape).numel()
        view = self.flat.data[start:stop].view(shape).requires_grad_()
        view.grad = self.grad[start:stop].view(shape)
        return view, stop


_MOST_FISHER_EXAMPLES = 1000


class FlatTargetNetwork(FlatNetwork):
    """A target network as a single network, so that methods are compared on the same architecture.

    It has the initial variances of the target. Inputs are flattened images.
    """

    at_once: ClassVar[int] = 250

    def __init__(
        self,
        body: TargetArchitecture,
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

    def copy(self) -> FlatTargetNetwork:
        found = FlatTargetNetwork(self.body, self.shape, self.outputs, torch.Generator(), self.flat.device)
        with torch.no_grad():
            found.flat.copy_(self.flat)
        found.flat.requires_grad_(False)
        return found

    def fisher(
        self, x: Float[Tensor, "n enter"], y: Int[Tensor, "n"], active: slice
    ) -> Float[Tensor, "parameters"]:
        """Return the diagonal from at most 1,000 evenly spaced examples, as each needs a separate pass."""
        rows = torch.linspace(0, len(y) - 1, min(len(y), _MOST_FISHER_EXAMPLES)).long()
        total = torch.zeros_like(self.grad)
        for row in rows.split(1):
            loss = F.cross_entropy(self(x[row])[:, active], y[row])
            (found,) = torch.autograd.grad(loss, self.flat)
            total.addcmul_(found, found)
        return total / len(rows)


def main_network(setting: ComparisonSetting, generator: torch.Generator) -> FlatNetwork:
    """Return the main network with the outputs of the scenario.

    Raise `LearnerError` if the target rejects the inputs.
    """
    if setting.target == "mlp":
        return Network((setting.inputs, *setting.hidden, setting.outputs), generator, setting.device)
    body = target(setting.target, setting.shape, setting.hidden)
    return FlatTargetNetwork(body, setting.shape, setting.outputs, generator, setting.device)
