"""Input specification, as data in a learner's config: a union told apart by `kind`, and pictures by `channels`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Discriminator, Tag

from models.inputs.image import ImageInput
from models.inputs.photo import PhotoInput
from models.inputs.vector import VectorInput


def _tag(described: Any) -> str | None:
    """Return the member of the union; images without `channels` are strokes, which were first."""
    fields = dict(described) if isinstance(described, dict | BaseModel) else {}
    kind: str | None = fields.get("kind")
    return "photo" if kind == "image" and fields.get("channels") == 3 else kind


PictureInput = ImageInput | PhotoInput


InputSpec = Annotated[
    Annotated[ImageInput, Tag("image")]
    | Annotated[PhotoInput, Tag("photo")]
    | Annotated[VectorInput, Tag("vector")],
    Discriminator(_tag),
]
