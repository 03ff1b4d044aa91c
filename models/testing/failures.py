"""Failures of a contract: each message names the call, the property and the size of the difference."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.testing import assert_close


class ContractError(AssertionError):
    """A method or an encoder breaks the contract; the message says which property of which call."""


def require(condition: bool, message: str) -> None:
    """Raise `ContractError` with the message unless the condition holds."""
    if not condition:
        raise ContractError(message)


def require_close(
    claim: str, one: Mapping[str, Tensor], other: Mapping[str, Tensor], atol: float = 1e-5, rtol: float = 1e-4
) -> None:
    """Raise `ContractError` naming the tensor that differs, unless both hold the same numbers within tolerance.

    `claim` is what is wrong if they differ: "predict: answers depend on …".
    """
    if one.keys() != other.keys():
        raise ContractError(f"{claim}: there are tensors {sorted(one)} and {sorted(other)}")
    for name, value in one.items():
        try:
            assert_close(value, other[name], atol=atol, rtol=rtol)
        except AssertionError:
            raise ContractError(f"{claim}: {name} {_difference(value, other[name])}") from None


def require_equal(claim: str, one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    """Raise `ContractError` naming the tensor that differs, unless both hold the same bits."""
    if one.keys() != other.keys():
        raise ContractError(f"{claim}: there are tensors {sorted(one)} and {sorted(other)}")
    for name, value in one.items():
        if not value.equal(other[name]):
            raise ContractError(f"{claim}: {name} {_difference(value, other[name])}")


def differs(one: Mapping[str, Tensor], other: Mapping[str, Tensor], atol: float) -> bool:
    """Return True if a tensor of one differs from its namesake."""
    return any(
        value.shape != other[name].shape or not torch.allclose(value, other[name], atol=atol, equal_nan=True)
        for name, value in one.items()
    )


def _difference(one: Tensor, other: Tensor) -> str:
    if one.shape != other.shape:
        return f"has shape {list(one.shape)} and {list(other.shape)}"
    if one.dtype != other.dtype:
        return f"is {one.dtype} and {other.dtype}"
    gap = (one.double() - other.double()).abs()
    if bool((one.isnan() | other.isnan()).any()):
        return "holds NaN"
    return f"differs by {float(gap[~gap.isnan()].max()):.2g}"
