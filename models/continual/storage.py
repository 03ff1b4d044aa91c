"""A version of a stream as bytes: one safetensors for what its tasks share, one for what each of them owns.

Versions have most of their parts in common: kept under a digest of its bytes, a part is stored once.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from models.protocol import LearnerError
from models.stream_protocol import StreamVersion


class StreamStorageError(LearnerError):
    """These bytes are no part of a stream's version."""


def to_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """Of `version.shared`, or of `version.own[task]`. The same tensors give the same bytes."""
    # Cloned, since safetensors refuses tensors that share memory.
    plain = {
        name: tensors[name].detach().cpu().clone(memory_format=torch.contiguous_format)
        for name in sorted(tensors)
    }
    return save(plain)


def from_bytes(data: bytes) -> dict[str, Tensor]:
    """Raises `StreamStorageError`."""
    try:
        found = load(data)
    except SafetensorError as error:
        raise StreamStorageError(f"not safetensors: {error}") from error
    for name, value in found.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise StreamStorageError(f"tensor {name!r} holds values that are not finite")
    return found


def assemble(
    number: int, labels: Mapping[str, tuple[str, ...]], shared: bytes, own: Mapping[str, bytes]
) -> StreamVersion:
    """The version again. Raises `StreamStorageError`."""
    if own.keys() != labels.keys():
        raise StreamStorageError("there must be one part for each stream task")
    parts = {task: from_bytes(own[task]) for task in labels}
    return StreamVersion(number, dict(labels), from_bytes(shared), parts)
