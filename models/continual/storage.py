"""A version of a stream as bytes: one safetensors file for the tensors that its tasks share, one for those of each
task.

Versions have most of their parts in common; stored under the digest of its bytes, a part is stored once.
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
    """The bytes are not a part of a stream's version."""


def to_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """Serialise `version.shared` or `version.per_task[task]`. The same tensors give the same bytes."""
    # Cloned because safetensors refuses tensors that share memory.
    plain = {
        name: tensors[name].detach().cpu().clone(memory_format=torch.contiguous_format)
        for name in sorted(tensors)
    }
    return save(plain)


def from_bytes(data: bytes) -> dict[str, Tensor]:
    """Parse the tensors of one part. Raise `StreamStorageError` if they are damaged or not finite."""
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise StreamStorageError(f"not safetensors: {error}") from error
    for name, value in tensors.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise StreamStorageError(f"tensor {name!r} contains values that are not finite")
    return tensors


def assemble(
    number: int, labels: Mapping[str, tuple[str, ...]], shared: bytes, parts: Mapping[str, bytes]
) -> StreamVersion:
    """Return the version stored in these bytes. Raise `StreamStorageError`."""
    if parts.keys() != labels.keys():
        raise StreamStorageError("there must be exactly one part for each stream task")
    per_task = {task: from_bytes(parts[task]) for task in labels}
    return StreamVersion(number, dict(labels), from_bytes(shared), per_task)
