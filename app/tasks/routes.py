"""/v1/tasks and /v1/predict."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from app.http.body import Intake
from app.http.context import Clock, Tenant, options_once, timed, unless_gone
from app.http.idempotency import Idempotency, takes_key
from app.http.limits import PAGE_DEFAULT, PAGE_MAX
from app.http.openapi import BODY, problems
from app.http.pagination import Cursor
from app.tasks import documents, schemas
from app.tasks.service import TaskService
from hyperserve.types import Page, Predictions, Task

router = APIRouter(prefix="/v1", tags=["tasks"], dependencies=[Depends(options_once)])


class PageOptions(BaseModel):
    model_config = ConfigDict(extra="forbid")

    limit: int = Field(default=PAGE_DEFAULT, ge=1, le=PAGE_MAX, description="Items of a page.")
    cursor: str | None = Field(default=None, max_length=100, description="`next_cursor` of the page before.")


async def _service(request: Request) -> TaskService:
    service: TaskService = request.app.state.services.tasks
    return service


async def _intake(request: Request) -> Intake:
    intake: Intake = request.app.state.services.intake
    return intake


Service = Annotated[TaskService, Depends(_service)]
Bodies = Annotated[Intake, Depends(_intake)]


@router.post(
    "/tasks",
    status_code=201,
    summary="Adapt a learner to a support set",
    dependencies=[Depends(takes_key)],
    responses=problems(409, *BODY),
    openapi_extra=documents.CREATE,
)
async def create_task(
    request: Request,
    response: Response,
    service: Service,
    tenant: Tenant,
    timing: Clock,
    bodies: Bodies,
    options: Annotated[schemas.CreateOptions, Query()],
) -> Task:
    keys: Idempotency = request.app.state.services.idempotency
    async with (
        bodies.body(request, ("json", "multipart")) as body,
        keys.claim(request, tenant, body) as claim,
    ):
        task = await service.create(tenant, body, options, timing, claim)
    response.headers["Location"] = f"/v1/tasks/{task.id}"
    return timed(task, request)


@router.get("/tasks", summary="Tasks, newest first", responses=problems(422, 503))
async def list_tasks(
    service: Service, tenant: Tenant, options: Annotated[PageOptions, Query()]
) -> Page[Task]:
    cursor = None if options.cursor is None else Cursor.decode(options.cursor, "task")
    return await service.page(tenant, cursor, options.limit)


@router.get("/tasks/{task_id}", summary="One task", responses=problems(404, 422, 503))
async def get_task(task_id: str, service: Service, tenant: Tenant) -> Task:
    return await service.get(tenant, task_id)


@router.delete(
    "/tasks/{task_id}",
    status_code=204,
    summary="Delete a task and its inputs",
    responses=problems(404, 422, 503),
)
async def delete_task(task_id: str, service: Service, tenant: Tenant) -> None:
    await service.delete(tenant, task_id)


@router.post(
    "/tasks/{task_id}/predict",
    summary="Ask a task",
    responses=problems(404, *BODY),
    openapi_extra=documents.PREDICT,
)
async def predict(
    request: Request,
    task_id: str,
    service: Service,
    tenant: Tenant,
    timing: Clock,
    bodies: Bodies,
    options: Annotated[schemas.PredictOptions, Query()],
) -> Predictions:
    await service.head(tenant, task_id)
    async with bodies.body(request, ("json", "multipart", "image")) as body:
        work = service.predict(tenant, task_id, body, options, timing)
        return timed(await unless_gone(request, work), request)


@router.post(
    "/predict",
    summary="Ask a support set once",
    responses=problems(*BODY),
    openapi_extra=documents.PREDICT_ONCE,
)
async def predict_once(
    request: Request,
    service: Service,
    timing: Clock,
    bodies: Bodies,
    options: Annotated[schemas.PredictOnceOptions, Query()],
) -> Predictions:
    async with bodies.body(request, ("json", "multipart")) as body:
        return timed(await unless_gone(request, service.predict_once(body, options, timing)), request)
