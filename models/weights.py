"""Weights of one task as bytes: safetensors, bit for bit, with a header that names learner and classes.

Tensors are named `task.*`, `rows.*`, `points.*`, `coefficients.*` and `class_key`; the header is JSON in the metadata
of safetensors.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from models.errors import ModelError
from models.noise import label_key
from models.protocol import TaskWeights

_FORMAT = "1"


class WeightsError(ModelError):
    """These bytes are no task weights, or weights and header contradict each other."""


@dataclass(frozen=True)
class Header:
    """Origin of weights: the learner that made them, the class of each row, the shots of each class."""

    learner_digest: str
    classes: tuple[str, ...]
    seed: int
    shots: tuple[int, ...] = ()


def tensors(weights: TaskWeights) -> Iterator[tuple[str, Tensor]]:
    """Yield the named tensors of weights, always in the same order."""
    yield "class_key", weights.class_key
    for name in sorted(weights.rows):
        yield f"rows.{name}", weights.rows[name]
    for name in sorted(weights.task):
        yield f"task.{name}", weights.task[name]
    for name in sorted(weights.points):
        yield f"points.{name}", weights.points[name]
    for name in sorted(weights.coefficients):
        yield f"coefficients.{name}", weights.coefficients[name]


def nbytes(weights: TaskWeights) -> int:
    """Return the bytes of all tensors, padding included."""
    named = [value for _, value in tensors(weights)]
    return sum(value.numel() * value.element_size() for value in (*named, weights.n_way, weights.seed))


def pack(weights: TaskWeights, header: Header) -> bytes:
    """Return one task's weights as safetensors. Raises `WeightsError` if header and weights contradict."""
    if weights.n_way.shape != (1,):
        raise WeightsError(f"{weights.n_way.shape[0]} tasks, but one is expected")
    if int(weights.seed[0]) != header.seed:
        raise WeightsError(f"the weights' seed is {int(weights.seed[0])}, the header's is {header.seed}")
    keys = [label_key(label) for label in header.classes]
    if weights.class_key[0, : int(weights.n_way[0])].tolist() != keys:
        raise WeightsError("the class keys of the weights are not those of the header's classes")
    # Cloned, since safetensors refuses tensors that share memory.
    named = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in tensors(weights)
    }
    return save(named, {"format": _FORMAT, "header": json.dumps(asdict(header))})


def unpack(data: bytes) -> tuple[TaskWeights, Header]:
    """Invert `pack`, bit for bit, on the CPU. Raises `WeightsError`."""
    try:
        named = load(data)
    except SafetensorError as error:
        raise WeightsError(f"not safetensors: {error}") from error
    header = _header(data)
    class_key = named.pop("class_key", None)
    keys = [[label_key(label) for label in header.classes]]
    if class_key is None or class_key.dtype != torch.int64 or class_key.tolist() != keys:
        raise WeightsError("the class keys are not those of the header's classes")
    counts = {
        value.shape[1] for name, value in named.items() if name.startswith("points.") and value.ndim > 1
    }
    if len(counts) > 1:
        raise WeightsError("the tensors of points differ in their number")
    count, way = next(iter(counts), None), len(header.classes)
    leads = {"task": (1,), "rows": (1, way), "points": (1, count), "coefficients": (1, way, count)}
    parts: dict[str, dict[str, Tensor]] = {part: {} for part in leads}
    for name, value in named.items():
        part, _, short = name.partition(".")
        if part not in parts or not short or value.shape[: len(leads[part])] != leads[part]:
            raise WeightsError(f"tensor {name!r} of shape {list(value.shape)} does not belong here")
        parts[part][short] = value
    seed = torch.tensor([header.seed])
    n_points = None if count is None else torch.tensor([count])
    return TaskWeights(
        parts["task"],
        parts["rows"],
        torch.tensor([way]),
        class_key,
        seed,
        parts["points"],
        parts["coefficients"],
        n_points,
    ), header


def _header(data: bytes) -> Header:
    """Parse the JSON that opens the format; the library reads metadata from files only."""
    length = int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8 : 8 + length]).get("__metadata__", {})
    if metadata.get("format") != _FORMAT:
        raise WeightsError(f"weights format {metadata.get('format')!r} is unknown, this code reads {_FORMAT}")
    try:
        fields = json.loads(metadata["header"])
        return Header(
            learner_digest=str(fields["learner_digest"]),
            classes=tuple(map(str, fields["classes"])),
            seed=int(fields["seed"]),
            shots=tuple(map(int, fields["shots"])),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"the header is malformed: {error!r}") from error
