"""A labelled file as a stream reads it: by the functions that decode its queries, so that both are the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from models.data import files
from models.data.dataset import ClassDataset, model_input
from models.data.errors import DatasetFileError, Format
from models.inputs import InputSpec, VectorInput

SHARE, MOST = 0.1, 500
"""By default a tenth, and no more than this many."""


def held_out_counts(counts: Sequence[int], wanted: int | None = None) -> list[int]:
    """How many of each class: `wanted` together, in proportion, but each class keeps an example to learn from."""
    total = sum(counts)
    wanted = min(MOST, int(SHARE * total)) if wanted is None else min(wanted, total - len(counts))
    shares = [wanted * count / total for count in counts]
    held = [min(int(share), count - 1) for share, count in zip(shares, counts, strict=True)]
    # What rounding down has left over goes to those who lost most by it, then to whoever has enough.
    order = sorted(range(len(counts)), key=lambda index: (int(shares[index]) - shares[index], index))
    while (left := wanted - sum(held)) > 0:
        for index in [index for index in order if held[index] < counts[index] - 1][:left]:
            held[index] += 1
    return held


def split(
    labels: Int[Tensor, "n"], held: Sequence[int], seed: int
) -> tuple[Int[Tensor, "learned"], Int[Tensor, "held"]]:
    """Indices of examples to learn from and to keep, `held` of each class; the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=generator)
    kept = torch.zeros(len(labels), dtype=torch.bool)
    for label, count in enumerate(held):
        kept[order[labels[order] == label][:count]] = True
    return (~kept).nonzero()[:, 0], kept.nonzero()[:, 0]


def read(
    path: Path, format: Format, spec: InputSpec, labels: Sequence[str]
) -> tuple[Float[Tensor, "n *input"], Int[Tensor, "n"]]:
    """Examples of the labels, in their order, and which label each has. Raises `DatasetFileError`."""
    if isinstance(spec, VectorInput):
        found = _chosen(files.from_file(path, format, path.name), labels)
        if found.inputs.ndim != 2 or found.inputs.shape[1] != spec.dim:
            raise DatasetFileError("dataset_mismatch", f"The stream takes vectors of {spec.dim} numbers.")
        return found.inputs, found.labels
    found = _chosen(files.from_file(path, format, path.name, pictures=spec), labels)
    if found.inputs.dtype != torch.uint8:
        raise DatasetFileError("dataset_mismatch", "The stream takes images.")
    # Those of a zip are ink or photos already; what an npz holds is still to become that.
    return (_stored(found.inputs) if format == "zip" else model_input(found, spec)), found.labels


def _chosen(dataset: ClassDataset, labels: Sequence[str]) -> ClassDataset:
    names = {name: index for index, name in enumerate(dataset.class_names)}
    if missing := [label for label in labels if label not in names]:
        raise DatasetFileError("unknown_class", f"The dataset has no class {missing[0]!r}.")
    return dataset.select([names[label] for label in labels])


def _stored(pictures: Tensor) -> Float[Tensor, "n channels side side"]:
    """The inverse of how data sets keep decoded pictures."""
    scaled = pictures.float() / 255
    return scaled[:, None] if pictures.ndim == 3 else scaled.permute(0, 3, 1, 2).contiguous()
