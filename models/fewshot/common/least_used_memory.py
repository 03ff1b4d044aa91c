"""An external memory written by least recently used access (Santoro et al. 2016, 1605.06065, §3.2).

In each step a controller gives each head a key k, a vector v to write, a strength β and a gate α. With w_r(t−1) the
head's reading weights of the step before and w_lu one-hot at a least used slot,

    w_w = σ(α) w_r(t−1) + (1 − σ(α)) w_lu,            write to slots that were just read, or to free ones
    M(t) = M(t−1) with its least used slots at 0, + Σ_heads w_wᵀ v,
    w_r(t) = softmax(β cos(k, M(t))),    recalled = w_r(t) M(t),
    u(t) = γ u(t−1) + Σ_heads (w_r(t) + w_w).

The n heads take the n least used slots, one each, the first of equals first. The paper has v = k and β = 1; at that a
softmax over 128 cosines is nearly flat. Separate vectors and strengths are those of the Neural Turing Machine.
All functions are pure; `tasks` may be any batch of memories.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

_START = 1e-6
"""Every number of an empty memory, as published."""
_SHORTEST = 1e-2
"""Rows much shorter than this have no direction: cosines with them go to 0, and gradients stay small."""


@dataclass(frozen=True)
class Memory:
    """State of the memory after a step."""

    slots: Float[Tensor, "tasks slots width"]
    usage: Float[Tensor, "tasks slots"]
    read: Float[Tensor, "tasks heads slots"]
    """w_r of the last step."""
    recalled: Float[Tensor, "tasks heads width"]

    @classmethod
    def empty(cls, tasks: int, heads: int, slots: int, width: int, like: Tensor) -> Memory:
        """Return an empty memory; usage and reading weights are on the first slot."""
        first = F.one_hot(like.new_zeros(tasks, dtype=torch.long), slots).to(like)
        return cls(
            like.new_full((tasks, slots, width), _START),
            first,
            first[:, None].repeat(1, heads, 1),
            like.new_zeros(tasks, heads, width),
        )


@dataclass(frozen=True)
class Access:
    """Request of the controller to the memory in one step."""

    key: Float[Tensor, "tasks heads width"]
    value: Float[Tensor, "tasks heads width"]
    strength: Float[Tensor, "tasks heads"]
    gate: Float[Tensor, "tasks heads"]
    """σ(α): 1 writes to the slots just read, 0 to free ones."""


def access(memory: Memory, request: Access, decay: float) -> Memory:
    """Return the memory after one step, which reads `recalled`. `decay` is γ."""
    free = least_used(memory.usage, request.key.shape[1])
    weights = write_weights(memory.read, free, request.gate)
    slots = written(memory.slots, weights, request.value, free)
    read = addressed(slots, request.key, request.strength)
    usage = decay * memory.usage + read.sum(1) + weights.sum(1)
    return Memory(slots, usage, read, read @ slots)


def least_used(usage: Float[Tensor, "tasks slots"], heads: int) -> Float[Tensor, "tasks heads slots"]:
    """Return one-hot rows: head h at the h-th least used slot. No gradient passes through the choice."""
    order = usage.detach().sort(dim=-1, stable=True).indices[:, :heads]
    return F.one_hot(order, usage.shape[-1]).to(usage)


def write_weights(
    read: Float[Tensor, "tasks heads slots"],
    free: Float[Tensor, "tasks heads slots"],
    gate: Float[Tensor, "tasks heads"],
) -> Float[Tensor, "tasks heads slots"]:
    return gate[..., None] * read + (1 - gate[..., None]) * free


def written(
    slots: Float[Tensor, "tasks slots width"],
    weights: Float[Tensor, "tasks heads slots"],
    value: Float[Tensor, "tasks heads width"],
    free: Float[Tensor, "tasks heads slots"],
) -> Float[Tensor, "tasks slots width"]:
    """Empty the free slots, then write."""
    left = slots * (1 - free.sum(1))[..., None]
    return left + weights.transpose(1, 2) @ value


def addressed(
    slots: Float[Tensor, "tasks slots width"],
    key: Float[Tensor, "tasks heads width"],
    strength: Float[Tensor, "tasks heads"],
) -> Float[Tensor, "tasks heads slots"]:
    """Return the reading weights of each head; they sum to 1 over the slots."""
    closeness = _direction(key) @ _direction(slots).transpose(1, 2)
    return (strength[..., None] * closeness).softmax(-1)


def _direction(x: Float[Tensor, "tasks n width"]) -> Float[Tensor, "tasks n width"]:
    return x * (x.square().sum(-1, keepdim=True) + _SHORTEST**2).rsqrt()
