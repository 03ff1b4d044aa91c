"""What a learner takes, as data in its config: a union told apart by `kind`, and pictures by `channels`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Discriminator, Tag

from models.inputs.image import ImageInput
from models.inputs.photo import PhotoInput
from models.inputs.vector import VectorInput


def _make(described: Any) -> str | None:
    """Pictures of strokes where nothing is said of channels: they were there first."""
    told = dict(described) if isinstance(described, dict | BaseModel) else {}
    kind: str | None = told.get("kind")
    return "photo" if kind == "image" and told.get("channels") == 3 else kind


InputSpec = Annotated[
    Annotated[ImageInput, Tag("image")]
    | Annotated[PhotoInput, Tag("photo")]
    | Annotated[VectorInput, Tag("vector")],
    Discriminator(_make),
]
