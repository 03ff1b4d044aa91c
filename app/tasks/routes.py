"""/v1/tasks and /v1/predict."""

from __future__ import annotations

from typing import Annotated, TypeVar

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel

from app.http import strict_json
from app.http.body import BodyKind, Intake
from app.http.dependencies import Clock, Tenant, options_once, timed, unless_gone
from app.http.etags import IfMatch, IfNoneMatch, etag, unchanged
from app.http.fields import NoOptions, PageOptions
from app.http.idempotency import Idempotency, takes_key
from app.http.openapi import BODY, problems
from app.http.pagination import Cursor
from app.http.validation import validated
from app.payloads.options import VersionOption
from app.tasks import openapi_examples, schemas
from app.tasks.prepare import feedback_from_json, relabel_from_json
from app.tasks.revisions import Revised
from app.tasks.service import TaskService
from hyperserve.types import Example, Page, Predictions, Task, Version

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
    openapi_extra=openapi_examples.CREATE,
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
    responses=openapi_examples.CACHEABLE | problems(404, 422, 503),
)
async def get_task(
    task_id: str,
    response: Response,
    service: Service,
    tenant: Tenant,
    known: IfNoneMatch,
    options: Annotated[VersionOption, Query()],
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
    openapi_extra=openapi_examples.PREDICT,
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
    openapi_extra=openapi_examples.PREDICT_ONCE,
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


_JSON: tuple[BodyKind, ...] = ("json",)
Asked = TypeVar("Asked", bound=BaseModel)
Promote = Annotated[schemas.PromoteOption, Query()]
Nothing = Annotated[NoOptions, Query()]


async def _document(request: Request, bodies: Bodies, model: type[Asked]) -> Asked:
    """A small JSON body."""
    async with bodies.body(request, _JSON) as body:
        return validated(model, strict_json.parse(body.data))


def _answer(revised: Revised, response: Response, request: Request) -> Task:
    response.headers["ETag"] = revised.headers()["ETag"]
    return timed(revised.task, request)


@router.post(
    "/tasks/{task_id}/support",
    status_code=201,
    summary="Add examples to a task: its next version",
    dependencies=[Depends(takes_key)],
    responses=problems(404, 409, 410, 412, *BODY),
    openapi_extra=openapi_examples.ADD_SUPPORT,
)
async def add_support(
    request: Request,
    response: Response,
    task_id: str,
    service: Service,
    tenant: Tenant,
    timing: Clock,
    bodies: Bodies,
    condition: IfMatch,
    options: Promote,
) -> Task:
    keys: Idempotency = request.app.state.services.idempotency
    async with (
        bodies.body(request, ("json", "multipart")) as body,
        keys.claim(request, tenant, body) as claim,
    ):
        made, promoted = await service.versions.add(tenant, task_id, body, options, condition, timing, claim)
    response.headers.update(made.headers(promoted=promoted))
    return timed(made.task, request)


@router.get(
    "/tasks/{task_id}/support",
    summary="Examples of a version, in order",
    responses=problems(404, 422, 503),
)
async def list_support(
    task_id: str, service: Service, tenant: Tenant, options: Annotated[schemas.ExamplesOptions, Query()]
) -> Page[Example]:
    return await service.versions.support(tenant, task_id, options.version, options.cursor, options.limit)


@router.patch(
    "/tasks/{task_id}/support/{example_id}",
    summary="Give an example of the current version another label or target: the next version",
    responses=problems(404, 409, 412, *BODY),
    openapi_extra=openapi_examples.RELABEL,
)
async def relabel_example(
    request: Request,
    response: Response,
    task_id: str,
    example_id: str,
    service: Service,
    tenant: Tenant,
    bodies: Bodies,
    condition: IfMatch,
    options: Promote,
) -> Task:
    async with bodies.body(request, _JSON) as body:
        wanted = relabel_from_json(strict_json.parse(body.data))
    made = await service.versions.redirect(tenant, task_id, example_id, wanted, options.promote, condition)
    return _answer(made, response, request)


@router.delete(
    "/tasks/{task_id}/support/{example_id}",
    summary="Take an example out of the current version: the next version",
    responses=problems(404, 409, 412, 422, 503),
)
async def remove_example(
    request: Request,
    response: Response,
    task_id: str,
    example_id: str,
    service: Service,
    tenant: Tenant,
    condition: IfMatch,
    options: Promote,
) -> Task:
    made = await service.versions.remove(tenant, task_id, example_id, options.promote, condition)
    return _answer(made, response, request)


@router.get(
    "/tasks/{task_id}/versions",
    summary="Versions of a task, newest first",
    response_model=Page[Version],
    responses=problems(404, 422, 503),
)
async def list_versions(
    task_id: str, service: Service, tenant: Tenant, options: Annotated[PageOptions, Query()]
) -> Response:
    return json_response(await service.versions.page(tenant, task_id, options.cursor, options.limit))


@router.put(
    "/tasks/{task_id}/current",
    summary="Make a version current: promote it, or roll back to it",
    responses=problems(404, 412, *BODY),
    openapi_extra=openapi_examples.PROMOTE,
)
async def promote(
    request: Request,
    response: Response,
    task_id: str,
    service: Service,
    tenant: Tenant,
    bodies: Bodies,
    condition: IfMatch,
    _options: Nothing,
) -> Task:
    number = (await _document(request, bodies, schemas.Promote)).version
    return _answer(await service.versions.promote(tenant, task_id, number, condition), response, request)


@router.patch(
    "/tasks/{task_id}",
    summary="Rename a task",
    responses=problems(404, 412, *BODY),
    openapi_extra=openapi_examples.RENAME,
)
async def rename_task(
    request: Request,
    response: Response,
    task_id: str,
    service: Service,
    tenant: Tenant,
    bodies: Bodies,
    condition: IfMatch,
    _options: Nothing,
) -> Task:
    name = (await _document(request, bodies, schemas.Rename)).name
    return _answer(await service.versions.rename(tenant, task_id, name, condition), response, request)


@router.post(
    "/predictions/{prediction_id}/feedback",
    status_code=201,
    summary="Say what the query of a stored prediction was: the next version of its task",
    dependencies=[Depends(takes_key)],
    responses=problems(404, 409, 410, *BODY),
    openapi_extra=openapi_examples.FEEDBACK,
)
async def give_feedback(
    request: Request,
    response: Response,
    prediction_id: str,
    service: Service,
    tenant: Tenant,
    timing: Clock,
    bodies: Bodies,
    _options: Nothing,
) -> Task:
    keys: Idempotency = request.app.state.services.idempotency
    async with bodies.body(request, _JSON) as body, keys.claim(request, tenant, body) as claim:
        wanted = feedback_from_json(strict_json.parse(body.data))
        made = await service.feedback.give(tenant, prediction_id, wanted, claim, timing)
    response.headers.update(made.headers())
    return timed(made.task, request)
