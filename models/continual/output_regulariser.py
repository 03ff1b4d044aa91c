"""The output regulariser of continual hypernetworks (von Oswald et al. 2019, 1906.00695, eq. 2):

    R = 1/(t-1) Σ_{j<t} ‖h(e_j; Θ*) − h(e_j; Θ + Δθ)‖²,    Θ* the parameters before the new task.

Δθ is the step that Adam would take on the task's loss alone. Squares are summed over all generated numbers, so a value
of β suits one size of network. Each regulariser returns R and its gradient at Θ + Δθ. Δθ is treated as a constant, so
this is the gradient in Θ.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from models.continual.chunked_hypernetwork import ChunkedHypernetwork, Parameters

Weighing = Literal["mean", "sum"]


@dataclass(frozen=True)
class OutputSnapshot:
    """Outputs that must not change: the first `size` numbers that `params` generate for each embedding."""

    params: Parameters
    embeddings: Float[Tensor, "t e"]
    size: int


class Regulariser(ABC):
    """An output regulariser over all earlier tasks."""

    def __init__(
        self, net: ChunkedHypernetwork, snapshot: OutputSnapshot, weighing: Weighing = "mean"
    ) -> None:
        self.net, self.snapshot = net, snapshot
        self.tasks = len(snapshot.embeddings)
        self.weight = 1 / self.tasks if weighing == "mean" else 1.0

    @abstractmethod
    def gradient(self, params: Parameters) -> tuple[Float[Tensor, ""], Mapping[str, Tensor]]:
        """Return R, and its gradient for each parameter that it depends on."""

    def _trunk(self, params: Parameters) -> tuple[dict[str, Tensor], Float[Tensor, "t chunks width"]]:
        """Return the parameters below the output layer as leaves, and φ as a function of them."""
        leaves = {
            name: value.detach().requires_grad_()
            for name, value in params.items()
            if not name.startswith("out.")
        }
        needed = {**leaves, "chunks": leaves["chunks"][: self.net.chunks(self.snapshot.size)]}
        return leaves, self.net.trunk(needed, self.snapshot.embeddings)


class DirectRegulariser(Regulariser):
    """The definition, which generates every network.

    Targets are generated from the snapshot at each step or, if `stored`, once (tasks × size numbers). Given `subset`,
    each step regularises that many randomly drawn tasks and scales R accordingly.
    """

    def __init__(
        self,
        net: ChunkedHypernetwork,
        snapshot: OutputSnapshot,
        weighing: Weighing = "mean",
        *,
        stored: bool = False,
        subset: int | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(net, snapshot, weighing)
        self.subset, self.generator = subset, generator
        self.stored = net.generate(snapshot.params, snapshot.embeddings, snapshot.size) if stored else None

    def gradient(self, params: Parameters) -> tuple[Float[Tensor, ""], Mapping[str, Tensor]]:
        leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
        chosen, weight = torch.arange(self.tasks), self.weight
        if self.subset is not None and self.subset < self.tasks:
            chosen = torch.randperm(self.tasks, generator=self.generator)[: self.subset]
            weight *= self.tasks / self.subset
        embeddings = self.snapshot.embeddings[chosen]
        if self.stored is None:
            with torch.no_grad():
                targets = self.net.generate(self.snapshot.params, embeddings, self.snapshot.size)
        else:
            targets = self.stored[chosen]
        value = weight * (self.net.generate(leaves, embeddings, self.snapshot.size) - targets).square().sum()
        found = torch.autograd.grad(value, list(leaves.values()))
        return value.detach(), dict(zip(leaves, found, strict=True))


class GramRegulariser(Regulariser):
    """Value and gradient of the definition for little more than the cost of one task, as the last layer is linear.

    The change of one chunk of one task is A ψ with A = [W − W*, b − b*, W] and ψ = [φ*, 1, φ − φ*], so

        R = Σ ‖A ψ‖² = tr(M AᵀA),    M = Σ ψψᵀ over all tasks and chunks:

    only the small trunk depends on the number of tasks. Both factors are differences already, so no precision is lost
    to cancellation. The last chunk is cut off at `size`: M sums over all chunks for rows below the cut, and over all
    but the last for rows above it.
    """

    def __init__(
        self, net: ChunkedHypernetwork, snapshot: OutputSnapshot, weighing: Weighing = "mean"
    ) -> None:
        super().__init__(net, snapshot, weighing)
        chunks = net.chunks(snapshot.size)
        self.cut = snapshot.size - (chunks - 1) * net.chunk
        known = {**snapshot.params, "chunks": snapshot.params["chunks"][:chunks]}
        phi = net.trunk(known, snapshot.embeddings).detach()
        self.before = torch.cat([phi, torch.ones_like(phi[..., :1])], 2)

    def gradient(self, params: Parameters) -> tuple[Float[Tensor, ""], Mapping[str, Tensor]]:
        leaves, phi = self._trunk(params)
        width, snapshot, cut = self.net.width, self.snapshot.params, self.cut
        after = torch.cat([phi.detach(), torch.ones_like(phi[..., :1])], 2)
        psi = torch.cat([self.before, after[..., :width] - self.before[..., :width]], 2)
        psi_below, psi_above = psi.flatten(0, 1), psi[:, :-1].flatten(0, 1)
        a = torch.cat(
            [
                params["out.weight"] - snapshot["out.weight"],
                (params["out.bias"] - snapshot["out.bias"])[:, None],
                params["out.weight"],
            ],
            1,
        )
        below, above = a[:cut], a[cut:]
        gram_below, gram_above = below.T @ below, above.T @ above
        m_below, m_above = psi_below.T @ psi_below, psi_above.T @ psi_above
        value = self.weight * ((gram_below * m_below).sum() + (gram_above * m_above).sum())
        twice = 2 * self.weight
        cross_below = twice * psi_below.T @ after.flatten(0, 1)
        cross_above = twice * psi_above.T @ after[:, :-1].flatten(0, 1)
        out = torch.cat([below @ cross_below, above @ cross_above])
        of_phi = psi @ (twice * gram_below[:, width + 1 :])
        of_phi[:, :-1] += psi[:, :-1] @ (twice * gram_above[:, width + 1 :])
        found = torch.autograd.grad(phi, list(leaves.values()), of_phi)
        grads = dict(zip(leaves, found, strict=True))
        return value, {**grads, "out.weight": out[:, :width], "out.bias": out[:, width]}


class SampledRegulariser(Regulariser):
    """An unbiased estimate from `pairs` (task, chunk) pairs per step, for trunks so wide that M itself is expensive.

    Half of the probability is uniform, half is proportional to how far a pair had moved when last drawn; each pair is
    weighted by 1 / probability.
    """

    def __init__(
        self,
        net: ChunkedHypernetwork,
        snapshot: OutputSnapshot,
        weighing: Weighing = "mean",
        *,
        pairs: int = 64,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(net, snapshot, weighing)
        self.pairs, self.generator = pairs, generator
        self.chunks = net.chunks(snapshot.size)
        known = {**snapshot.params, "chunks": snapshot.params["chunks"][: self.chunks]}
        self.phi = net.trunk(known, snapshot.embeddings).detach().flatten(0, 1)
        # On the CPU, where the pairs are drawn.
        self.moved = torch.ones(self.tasks * self.chunks)
        self.used = torch.full((self.chunks,), net.chunk, device=self.phi.device)
        self.used[-1] = snapshot.size - (self.chunks - 1) * net.chunk

    @property
    def probabilities(self) -> Float[Tensor, "pairs"]:
        even = torch.full_like(self.moved, 1 / len(self.moved))
        total = self.moved.sum()
        return even if float(total) <= 0 else (even + self.moved / total) / 2

    def gradient(self, params: Parameters) -> tuple[Float[Tensor, ""], Mapping[str, Tensor]]:
        probabilities = self.probabilities
        drawn = torch.multinomial(probabilities, self.pairs, replacement=True, generator=self.generator)
        leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
        place, chance = drawn.to(self.phi.device), probabilities[drawn].to(self.phi.device)
        task, chunk = place // self.chunks, place % self.chunks
        phi = self.net.pairs(leaves, self.snapshot.embeddings[task], leaves["chunks"][chunk])
        before = self.phi[place]
        change = phi @ leaves["out.weight"].T - before @ self.snapshot.params["out.weight"].T
        change = change + (leaves["out.bias"] - self.snapshot.params["out.bias"])
        change = change * (torch.arange(self.net.chunk, device=change.device) < self.used[chunk][:, None])
        moved = change.square().sum(1)
        value = self.weight * (moved / (self.pairs * chance)).sum()
        found = torch.autograd.grad(value, list(leaves.values()))
        self.moved[drawn] = moved.detach().cpu()
        return value.detach(), dict(zip(leaves, found, strict=True))


class OwnRowsRegulariser(Regulariser):
    """Regularises, in the output head of each task, only the rows of its own classes; `bodies` regularises the bodies.

    `numbers` are the positions of these rows in the flat vectors. A multi-head network never uses the other rows of a
    task's network.
    """

    def __init__(self, bodies: Regulariser, numbers: Int[Tensor, "t n"], mask: Bool[Tensor, "t n"]) -> None:
        super().__init__(bodies.net, bodies.snapshot)
        self.bodies, self.weight = bodies, bodies.weight
        numbers, self.mask = (each.to(self.snapshot.embeddings.device) for each in (numbers, mask))
        self.chunk, self.row = numbers // self.net.chunk, numbers % self.net.chunk
        self.targets = self._heads(self.snapshot.params).detach()

    def gradient(self, params: Parameters) -> tuple[Float[Tensor, ""], Mapping[str, Tensor]]:
        value, grads = self.bodies.gradient(params)
        leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
        change = (self._heads(leaves) - self.targets) * self.mask
        of_rows = self.weight * change.square().sum()
        found = dict(zip(leaves, torch.autograd.grad(of_rows, list(leaves.values())), strict=True))
        return value + of_rows.detach(), {name: grads[name] + grad for name, grad in found.items()}

    def _heads(self, params: Parameters) -> Float[Tensor, "t n"]:
        task = torch.arange(self.tasks)[:, None]
        chunks = params["chunks"][self.chunk]
        phi = self.net.pairs(params, self.snapshot.embeddings[task].expand(*chunks.shape[:2], -1), chunks)
        return (phi * params["out.weight"][self.row]).sum(2) + params["out.bias"][self.row]
