"""Query options of requests for datasets."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from app.http.fields import Flag, Name, Options
from models.data.errors import ReadOptions

LabelColumn = Annotated[
    Name | None,
    Field(
        description="Column of a CSV that holds the labels, by name or by position from 0 (-1 is the last), or array "
        "of an npz; detected by default, and the file is refused if the labels are not plain.",
    ),
]


class UploadOptions(Options):
    """Options of an upload; the body is the file."""

    name: Name | None = Field(default=None, description="A name for people; need not be unique.")
    skip_bad: Flag = Field(
        default=False,
        description="Leave out images that cannot be decoded and report them in `warnings`, instead of refusing "
        "the file.",
    )
    label: LabelColumn = None

    @property
    def reading(self) -> ReadOptions:
        """Return the options for reading the file."""
        return ReadOptions(skip_bad=self.skip_bad, label=self.label)
