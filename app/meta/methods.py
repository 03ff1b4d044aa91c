"""/v1/methods: what a learner can be made by."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query

from app.http.dependencies import options_once
from app.http.fields import NoOptions
from app.http.openapi import problems
from app.http.problems import fail
from hyperserve.types import Method, Page
from models.methods import described

router = APIRouter(prefix="/v1/methods", tags=["methods"], dependencies=[Depends(options_once)])


async def _described() -> dict[str, Method]:
    """The first call imports every method, which takes a while: off the event loop."""
    return await asyncio.to_thread(described)


Methods = Annotated[dict[str, Method], Depends(_described)]


@router.get("", summary="Methods that learners are made by", responses=problems(422))
async def list_methods(methods: Methods, _options: Annotated[NoOptions, Query()]) -> Page[Method]:
    return Page[Method](items=list(methods.values()))


@router.get("/{name}", summary="One method", responses=problems(404, 422))
async def get_method(
    name: Annotated[str, Path(examples=["hypershot"])],
    methods: Methods,
    _options: Annotated[NoOptions, Query()],
) -> Method:
    if name not in methods:
        raise fail("not_found", "There is no such method; GET /v1/methods lists them.")
    return methods[name]
