"""/v1/learners."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request

from app.http.openapi import problems
from app.http.problems import fail
from app.learners.service import Learners
from hyperserve.types import Learner, LearnerCard, Page

router = APIRouter(prefix="/v1/learners", tags=["learners"])


async def _learners(request: Request) -> Learners:
    learners: Learners = request.app.state.services.learners
    return learners


Service = Annotated[Learners, Depends(_learners)]


@router.get("", summary="Learners that are served", responses=problems(503))
async def list_learners(learners: Service) -> Page[Learner]:
    return Page[Learner](items=[learners.describe(artifact) for artifact in learners.artifacts.values()])


@router.get("/{name}", summary="One learner and its model card", responses=problems(404, 503))
async def get_learner(name: Annotated[str, Path(examples=["glyphs"])], learners: Service) -> LearnerCard:
    if name not in learners.artifacts:
        raise fail("learner_not_found", "There is no such learner.")
    return learners.card(learners.artifacts[name])
