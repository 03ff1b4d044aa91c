"""/v1/learners."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from app.http import strict_json
from app.http.body import BodyKind, Intake
from app.http.dependencies import Tenant, options_once
from app.http.fields import NoOptions, PageOptions
from app.http.idempotency import takes_key
from app.http.openapi import BODY, problems
from app.http.validation import validated
from app.learners import openapi_examples, schemas
from app.learners.trainings import LOCATION, TrainingService, cursor_of
from hyperserve.types import Learner, LearnerCard, Page, Training

router = APIRouter(prefix="/v1/learners", tags=["learners"], dependencies=[Depends(options_once)])


async def _service(request: Request) -> TrainingService:
    service: TrainingService = request.app.state.services.trainings
    return service


async def _intake(request: Request) -> Intake:
    intake: Intake = request.app.state.services.intake
    return intake


Service = Annotated[TrainingService, Depends(_service)]
Bodies = Annotated[Intake, Depends(_intake)]
_JSON: tuple[BodyKind, ...] = ("json",)
Name = Annotated[str, Path(examples=["glyphs"])]


@router.post(
    "",
    status_code=202,
    summary="Train a learner on a dataset",
    dependencies=[Depends(takes_key)],
    responses=problems(409, *BODY),
    openapi_extra=openapi_examples.TRAIN,
)
async def train_learner(
    request: Request,
    response: Response,
    service: Service,
    tenant: Tenant,
    bodies: Bodies,
    _options: Annotated[NoOptions, Query()],
) -> Training:
    async with (
        bodies.body(request, _JSON) as body,
        request.app.state.services.idempotency.claim(request, tenant, body) as claim,
    ):
        wanted = validated(schemas.TrainLearner, strict_json.parse(body.data))
        training = await service.create(tenant, wanted, claim)
    response.headers["Location"] = LOCATION.format(id=training.job.id)
    return training


@router.get("", summary="Learners, by name: served, being trained, failed", responses=problems(422, 503))
async def list_learners(
    service: Service, tenant: Tenant, options: Annotated[PageOptions, Query()]
) -> Page[Learner]:
    return await service.page(tenant, cursor_of(options.cursor), options.limit)


@router.get("/{name}", summary="One learner and its model card", responses=problems(404, 422, 503))
async def get_learner(
    name: Name, service: Service, tenant: Tenant, _options: Annotated[NoOptions, Query()]
) -> LearnerCard:
    return await service.get(tenant, name)


@router.delete(
    "/{name}",
    status_code=204,
    summary="Delete a learner that was trained here; while it is trained, cancel that",
    responses=problems(404, 409, 422, 503),
)
async def delete_learner(
    name: Name, service: Service, tenant: Tenant, options: Annotated[schemas.DeleteOptions, Query()]
) -> None:
    await service.delete(tenant, name, force=options.force)
