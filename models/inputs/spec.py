"""What a learner takes, as data in its config: a union told apart by `kind`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from models.inputs.image import ImageInput
from models.inputs.vector import VectorInput

InputSpec = Annotated[ImageInput | VectorInput, Field(discriminator="kind")]
