"""/v1/tasks and /v1/predict."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from app.http.body import Intake
from app.http.context import Clock, Tenant, options_once, timed, unless_gone
from app.http.etags import IfMatch, IfNoneMatch, etag, unchanged
from app.http.fields import NoOptions, PageOptions
from app.http.idempotency import Idempotency, takes_key
from app.http.openapi import BODY, problems
from app.http.pagination import Cursor
from app.tasks import documents, schemas
from app.tasks.service import TaskService
from hyperserve.types import Page, Predictions, Task

router = APIRouter(prefix="/v1", tags=["tasks"], dependencies=[Depends(options_once)])


async def _service(request: Request) -> TaskService:
    service: TaskService = request.app.state.services.tasks
    return service


async def _intake(request: Request) -> Intake:
    intake: Intake = request.app.state.services.intake
    return intake


def json_response(body: bytes) -> Response:
    """Of a body that was made off the event loop."""
    return Response(body, media_type="application/json")


Service = Annotated[TaskService, Depends(_service)]
Bodies = Annotated[Intake, Depends(_intake)]


@router.post(
    "/tasks",
    status_code=201,
    summary="Adapt a learner to a support set",
    dependencies=[Depends(takes_key)],
    responses=problems(409, 410, *BODY),
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
    response.headers["ETag"] = etag(1)
    return timed(task, request)


@router.get("/tasks", summary="Tasks, newest first", response_model=Page[Task], responses=problems(422, 503))
async def list_tasks(service: Service, tenant: Tenant, options: Annotated[PageOptions, Query()]) -> Response:
    cursor = None if options.cursor is None else Cursor.decode(options.cursor, "task")
    return json_response(await service.page(tenant, cursor, options.limit))


@router.get(
    "/tasks/{task_id}",
    summary="One task",
    response_model=Task,
    responses=documents.CACHEABLE | problems(404, 422, 503),
)
async def get_task(
    task_id: str,
    response: Response,
    service: Service,
    tenant: Tenant,
    known: IfNoneMatch,
    options: Annotated[schemas.VersionOption, Query()],
) -> Task | Response:
    found = await service.get(tenant, task_id, options.version)
    if unchanged(known, found.revision):
        return Response(status_code=304, headers={"ETag": etag(found.revision)})
    response.headers["ETag"] = etag(found.revision)
    return found.task


@router.delete(
    "/tasks/{task_id}",
    status_code=204,
    summary="Delete a task and its inputs",
    responses=problems(404, 412, 422, 503),
)
async def delete_task(
    task_id: str,
    service: Service,
    tenant: Tenant,
    condition: IfMatch,
    _options: Annotated[NoOptions, Query()],
) -> None:
    await service.delete(tenant, task_id, condition)


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
    await service.asking.check(tenant, task_id, options.version)
    async with bodies.body(request, ("json", "multipart", "image")) as body:
        work = service.asking.predict(tenant, task_id, body, options, timing)
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
        return timed(await unless_gone(request, service.asking.predict_once(body, options, timing)), request)
