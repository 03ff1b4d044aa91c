"""Options of the routes of jobs."""

from __future__ import annotations

from typing import Annotated

from fastapi import Header
from pydantic import Field

from app.http.fields import PageOptions
from app.jobs.repository import State


class JobsOptions(PageOptions):
    state: State | None = Field(default=None, description="Only jobs in this state.")
    kind: str | None = Field(
        default=None, pattern=r"^[a-z][a-z0-9_]{0,31}$", description="Only jobs of this kind, such as train."
    )


LastEventId = Annotated[
    int | None,
    Header(
        alias="Last-Event-ID",
        ge=0,
        le=2**31 - 1,
        description="`id` of the last event that arrived; what it told is not told again.",
    ),
]
