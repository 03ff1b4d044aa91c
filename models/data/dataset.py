"""A labelled set to draw tasks from: inputs grouped by class, classes grouped by domain."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from models.errors import ModelError
from models.inputs import ImageInput, InputSpec, PhotoInput, VectorInput
from models.inputs.ink import ink
from models.inputs.photo import photo

GLYPH_SIDE = 56
"""Side at which glyphs are stored for augmentation: twice that of the learner's input."""
_CHUNK = 2048


class DatasetError(ModelError, ValueError):
    """A data set cannot be read or used; the message names the file and the fault."""


@dataclass(frozen=True)
class ClassDataset:
    """Pictures are uint8 [n, side, side], in colour [n, side, side, 3], vectors float32 [n, d].

    Before `glyphs` or `photos` pictures are [n, height, width] or [n, height, width, channels].
    """

    source: str
    inputs: Tensor
    labels: Int[Tensor, "n"]
    class_names: tuple[str, ...]
    domains: Int[Tensor, "classes"]
    """Index of the domain of each class: its alphabet, if a class is a character."""

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.labels):
            raise DatasetError(f"{self.source}: {len(self.inputs)} inputs but {len(self.labels)} labels")
        counts = torch.bincount(self.labels, minlength=len(self.class_names))
        if len(counts) != len(self.class_names) or not bool((counts > 0).all()):
            raise DatasetError(f"{self.source}: every class needs an example and every label a class name")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def kind(self) -> Literal["image", "vector"]:
        return "image" if self.inputs.dtype == torch.uint8 else "vector"

    @property
    def digest(self) -> str:
        """SHA-256 of the sorted class names, by which a model card proves its training classes."""
        return hashlib.sha256("\n".join(sorted(self.class_names)).encode()).hexdigest()

    @property
    def counts(self) -> dict[str, int]:
        """Examples of each class."""
        found = torch.bincount(self.labels, minlength=len(self.class_names)).tolist()
        return dict(zip(self.class_names, found, strict=True))

    def members(self) -> list[Int[Tensor, "m"]]:
        """Return the indices of the examples of each class."""
        order = self.labels.argsort(stable=True)
        counts = torch.bincount(self.labels, minlength=len(self.class_names))
        return list(order.split(counts.tolist()))

    def select(self, classes: Sequence[int]) -> ClassDataset:
        """Return the data set of some classes, renumbered in the given order."""
        index = torch.full((len(self.class_names),), -1)
        index[list(classes)] = torch.arange(len(classes))
        keep = index[self.labels] >= 0
        return replace(
            self,
            inputs=self.inputs[keep],
            labels=index[self.labels[keep]],
            class_names=tuple(self.class_names[c] for c in classes),
            domains=self.domains[list(classes)],
        )

    def glyphs(self, side: int = GLYPH_SIDE, *, crop: bool = False) -> ClassDataset:
        """Return pictures as uint8 ink [n, side, side], by the function that serves (`models.inputs.ink`)."""
        pictures = self.inputs if self.inputs.ndim == 4 else self.inputs[..., None]
        inked = (ink(chunk, side, crop=crop) for chunk in pictures.split(_CHUNK))
        chunks = [chunk[:, 0].mul(255).round().byte() for chunk in inked]
        return replace(self, inputs=torch.cat(chunks))

    def photos(self, size: int) -> ClassDataset:
        """Return pictures as uint8 RGB [n, size, size, 3], by the function that serves (`models.inputs.photo`)."""
        pictures = self.inputs if self.inputs.ndim == 4 else self.inputs[..., None]
        if pictures.shape[1:] == (size, size, 3):
            return self
        chunks = [photo(chunk, size).mul(255).round().byte() for chunk in pictures.split(_CHUNK)]
        return replace(self, inputs=torch.cat(chunks).permute(0, 2, 3, 1).contiguous())

    def stored_as(self, form: InputSpec) -> ClassDataset:
        """Return the inputs as a learner's `InputSpec.stored_form` has them; vectors stay."""
        if isinstance(form, PhotoInput):
            return self.photos(form.size)
        return self.glyphs(form.size, crop=form.crop) if isinstance(form, ImageInput) else self

    def mirrored(self) -> ClassDataset:
        """Return each class and its mirror image as two classes, in domains of their own."""
        classes, domains = len(self.class_names), int(self.domains.max()) + 1
        return replace(
            self,
            source=f"{self.source} with mirror images",
            inputs=torch.cat((self.inputs, self.inputs.flip(2))),
            labels=torch.cat((self.labels, self.labels + classes)),
            class_names=(*self.class_names, *(f"{name}#mirrored" for name in self.class_names)),
            domains=torch.cat((self.domains, self.domains + domains)),
        )

    def rotations(self) -> ClassDataset:
        """Return each class turned by 0, 90, 180 and 270 degrees as four classes (Santoro et al. 2016)."""
        classes, turns = len(self.class_names), range(4)
        domains = int(self.domains.max()) + 1
        return replace(
            self,
            source=f"{self.source} with rotations",
            inputs=torch.cat([self.inputs.rot90(turn, (1, 2)) for turn in turns]),
            labels=torch.cat([self.labels + turn * classes for turn in turns]),
            class_names=tuple(f"{name}@{90 * turn}" for turn in turns for name in self.class_names),
            domains=torch.cat([self.domains + turn * domains for turn in turns]),
        )


def model_input(dataset: ClassDataset, spec: InputSpec | None = None) -> Tensor:
    """Return what a learner of this input embeds, without augmentation: ink [n, 1, size, size] or RGB
    [n, 3, size, size] in [0, 1], or the vectors. Raises `DatasetError` for pictures if the learner takes vectors."""
    if dataset.kind == "vector":
        return dataset.inputs
    taken = ImageInput() if spec is None else spec
    if isinstance(taken, VectorInput):
        raise DatasetError(f"{dataset.source} holds images; the learner takes vectors")
    pictures = dataset.inputs if dataset.inputs.ndim == 4 else dataset.inputs[..., None]
    return torch.cat([taken.from_pixels(chunk) for chunk in pictures.split(_CHUNK)])
