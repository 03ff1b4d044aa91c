"""/v1/tasks/{id}: its examples, its versions, which one is current; and feedback to predictions."""

from __future__ import annotations

from typing import Annotated, TypeVar

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel

from app.http import strict_json
from app.http.body import BodyKind
from app.http.context import Clock, Tenant, options_once, timed
from app.http.etags import IfMatch
from app.http.fields import NoOptions, PageOptions
from app.http.idempotency import Idempotency, takes_key
from app.http.openapi import BODY, problems
from app.http.validation import validated
from app.tasks import documents, schemas
from app.tasks.revise import Revised
from app.tasks.routes import Bodies, Service, json_response
from app.tasks.wanted import feedback_from_json, relabel_from_json
from hyperserve.types import Example, Page, Task, Version

router = APIRouter(prefix="/v1", tags=["tasks"], dependencies=[Depends(options_once)])

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
    openapi_extra=documents.ADD_SUPPORT,
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
    openapi_extra=documents.RELABEL,
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
    openapi_extra=documents.PROMOTE,
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
    openapi_extra=documents.RENAME,
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
    openapi_extra=documents.FEEDBACK,
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
