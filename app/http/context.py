"""What routes are given: the tenant, the clock of the request, the services of the process."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from hyperserve.types import Timing

DEFAULT_TENANT = "default"


def _tenant() -> str:
    # Keys will name tenants; until then everyone is one.
    return DEFAULT_TENANT


def _timing(request: Request) -> Timing:
    timing: Timing = request.state.timing
    return timing


Tenant = Annotated[str, Depends(_tenant)]
Clock = Annotated[Timing, Depends(_timing)]
