"""/v1/learners."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from app.http.dependencies import JsonClaim, NoQuery, PageQuery, TenantStore, document, options_once
from app.http.openapi import BODY, problems
from app.learners import openapi_examples, schemas
from app.learners.resources import LearnerResources
from app.learners.service import LOCATION, TrainingService
from hyperserve.types import Learner, LearnerCard, Page, Training

router = APIRouter(prefix="/v1/learners", tags=["learners"], dependencies=[Depends(options_once)])


async def _service(request: Request, store: TenantStore) -> TrainingService:
    resources: LearnerResources = request.app.state.learners
    return TrainingService(resources, store)


Service = Annotated[TrainingService, Depends(_service)]
Name = Annotated[str, Path(examples=["glyphs"])]


@router.post(
    "",
    status_code=202,
    summary="Train a learner on a dataset",
    responses=problems(409, *BODY),
    openapi_extra=openapi_examples.TRAIN,
)
async def train_learner(
    response: Response,
    service: Service,
    claim: JsonClaim,
    request: Annotated[schemas.TrainLearner, Depends(document(schemas.TrainLearner))],
) -> Training:
    training = await service.create(request, claim)
    response.headers["Location"] = LOCATION.format(id=training.job.id)
    return training


@router.get("", summary="Learners, by name: served, being trained, failed", responses=problems(422, 503))
async def list_learners(service: Service, options: PageQuery) -> Page[Learner]:
    return await service.page(options)


@router.get("/{name}", summary="One learner and its model card", responses=problems(404, 422, 503))
async def get_learner(name: Name, service: Service, _options: NoQuery) -> LearnerCard:
    return await service.get(name)


@router.delete(
    "/{name}",
    status_code=204,
    summary="Delete a learner that was trained here; while it is trained, cancel that",
    responses=problems(404, 409, 422, 503),
)
async def delete_learner(
    name: Name, service: Service, options: Annotated[schemas.DeleteOptions, Query()]
) -> None:
    await service.delete(name, force=options.force)
