"""Vectors: any embedding a client has, of one length within a task."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from models.inputs.raw import MAX_VECTOR, InputError, RawInput, Vector


class VectorInput(BaseModel):
    """Vectors; `dim=None` takes any length, the same for all inputs of a task."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["vector"] = "vector"
    dim: int | None = Field(default=None, ge=1, le=MAX_VECTOR)

    def decode(self, raw: RawInput) -> npt.NDArray[np.float32]:
        """Return float32 [d].

        Raises `InputError`: wrong_kind, vector_empty, vector_too_long, vector_length, not_finite.
        """
        if not isinstance(raw, Vector):
            raise InputError("wrong_kind", f"This learner takes vectors, not {raw.kind}s.")
        values = raw.values
        if values.ndim != 1:
            raise InputError("vector_length", f"A vector has one axis, this has {values.ndim}.", 1)
        if values.size == 0:
            raise InputError("vector_empty", "A vector needs at least one number.", 1)
        if values.size > MAX_VECTOR:
            raise InputError("vector_too_long", f"A vector may hold {MAX_VECTOR} numbers.", MAX_VECTOR)
        if self.dim is not None and values.size != self.dim:
            raise InputError(
                "vector_length",
                f"The vector has {values.size} numbers where {self.dim} are expected.",
                self.dim,
            )
        if not np.isfinite(values).all():
            raise InputError("not_finite", "The vector holds NaN or an infinite number.")
        return values

    def like(self, first: npt.NDArray[np.float32]) -> VectorInput:
        """Return the input of a task whose first decoded example is `first`: its length then binds the others."""
        return self if self.dim is not None else self.model_copy(update={"dim": int(first.shape[0])})

    @property
    def stored_form(self) -> VectorInput:
        """Input by which vectors are stored for training: as they are."""
        return self

    @property
    def shape(self) -> tuple[int] | None:
        """Shape of one decoded input, None if any length is taken."""
        return None if self.dim is None else (self.dim,)
