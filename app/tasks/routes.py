"""/v1/tasks, /v1/predict and /v1/predictions."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from app.http.dependencies import (
    JsonBody,
    JsonClaim,
    NoQuery,
    PageQuery,
    QueryBody,
    SupportBody,
    SupportClaim,
    TenantStore,
    document,
    options_once,
    timed,
    unless_gone,
)
from app.http.etags import IfMatch, IfNoneMatch, etag, unchanged
from app.http.openapi import BODY, problems
from app.payloads.options import VersionOption
from app.tasks import openapi_examples, prepare, schemas
from app.tasks.feedback import FeedbackService
from app.tasks.predict import PredictService
from app.tasks.revisions import RevisedTask, RevisionService
from app.tasks.service import TaskService
from hyperserve.types import Example, Page, Predictions, Task, Version

router = APIRouter(prefix="/v1", tags=["tasks"], dependencies=[Depends(options_once)])


async def _tasks(request: Request, store: TenantStore) -> TaskService:
    return TaskService(request.app.state.tasks, store)


async def _predictions(request: Request, store: TenantStore) -> PredictService:
    return PredictService(request.app.state.tasks, store)


async def _revisions(request: Request, store: TenantStore) -> RevisionService:
    return RevisionService(request.app.state.tasks, store)


async def _feedback(request: Request, store: TenantStore) -> FeedbackService:
    return FeedbackService(request.app.state.tasks, store)


async def _relabelling(body: JsonBody) -> schemas.Relabelling:
    return prepare.relabelling(body)


Tasks = Annotated[TaskService, Depends(_tasks)]
Predicting = Annotated[PredictService, Depends(_predictions)]
Revisions = Annotated[RevisionService, Depends(_revisions)]
GivingFeedback = Annotated[FeedbackService, Depends(_feedback)]
PromoteQuery = Annotated[schemas.PromoteOption, Query()]


async def _predict_options(
    task_id: str, service: Predicting, options: Annotated[schemas.PredictOptions, Query()]
) -> schemas.PredictOptions:
    # A dependency that comes before the body: that of a task which does not exist is not read.
    await service.check(task_id, options.version)
    return options


@router.post(
    "/tasks",
    status_code=201,
    summary="Adapt a learner to a support set",
    responses=problems(409, 410, *BODY),
    openapi_extra=openapi_examples.CREATE,
)
async def create_task(
    request: Request,
    response: Response,
    service: Tasks,
    body: SupportBody,
    claim: SupportClaim,
    options: Annotated[schemas.CreateOptions, Query()],
) -> Task:
    task = await service.create(body, options, claim)
    response.headers["Location"] = f"/v1/tasks/{task.id}"
    response.headers["ETag"] = etag(1)
    return timed(task, request)


@router.get(
    "/tasks", summary="List tasks, newest first", response_model=Page[Task], responses=problems(422, 503)
)
async def list_tasks(service: Tasks, options: PageQuery) -> Response:
    return _json_response(await service.page(options))


@router.get(
    "/tasks/{task_id}",
    summary="Get a task",
    response_model=Task,
    responses=openapi_examples.CACHEABLE | problems(404, 422, 503),
)
async def get_task(
    task_id: str,
    response: Response,
    service: Tasks,
    known: IfNoneMatch,
    options: Annotated[VersionOption, Query()],
) -> Task | Response:
    found = await service.get(task_id, options.version)
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
async def delete_task(task_id: str, service: Tasks, condition: IfMatch, _options: NoQuery) -> None:
    await service.delete(task_id, condition)


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
    service: Tasks,
    change: Annotated[schemas.Rename, Depends(document(schemas.Rename))],
    condition: IfMatch,
) -> Task:
    return _changed(await service.rename(task_id, change, condition), response, request)


@router.put(
    "/tasks/{task_id}/current",
    summary="Make a version the current one: promote it, or roll back to it",
    responses=problems(404, 412, *BODY),
    openapi_extra=openapi_examples.PROMOTE,
)
async def promote(
    request: Request,
    response: Response,
    task_id: str,
    service: Tasks,
    change: Annotated[schemas.Promote, Depends(document(schemas.Promote))],
    condition: IfMatch,
) -> Task:
    return _changed(await service.promote(task_id, change, condition), response, request)


@router.get(
    "/tasks/{task_id}/versions",
    summary="List versions of a task, newest first",
    response_model=Page[Version],
    responses=problems(404, 422, 503),
)
async def list_versions(task_id: str, service: Tasks, options: PageQuery) -> Response:
    return _json_response(await service.page_of_versions(task_id, options))


@router.get(
    "/tasks/{task_id}/support",
    summary="List examples of a version, in order",
    responses=problems(404, 422, 503),
)
async def list_support(
    task_id: str, service: Tasks, options: Annotated[schemas.ExamplesOptions, Query()]
) -> Page[Example]:
    return await service.page_of_examples(task_id, options)


@router.post(
    "/tasks/{task_id}/support",
    status_code=201,
    summary="Add examples to a task: its next version",
    responses=problems(404, 409, 410, 412, *BODY),
    openapi_extra=openapi_examples.ADD_SUPPORT,
)
async def add_support(
    request: Request,
    response: Response,
    task_id: str,
    service: Revisions,
    body: SupportBody,
    claim: SupportClaim,
    condition: IfMatch,
    options: PromoteQuery,
) -> Task:
    made = await service.add(task_id, body, options, condition, claim)
    response.headers.update(made.headers)
    return timed(made.task, request)


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
    service: Revisions,
    given: Annotated[schemas.Relabelling, Depends(_relabelling)],
    condition: IfMatch,
    options: PromoteQuery,
) -> Task:
    made = await service.relabel(task_id, example_id, given, options, condition)
    return _changed(made, response, request)


@router.delete(
    "/tasks/{task_id}/support/{example_id}",
    summary="Remove an example from the current version: the next version",
    responses=problems(404, 409, 412, 422, 503),
)
async def remove_example(
    request: Request,
    response: Response,
    task_id: str,
    example_id: str,
    service: Revisions,
    condition: IfMatch,
    options: PromoteQuery,
) -> Task:
    made = await service.remove(task_id, example_id, options, condition)
    return _changed(made, response, request)


@router.post(
    "/tasks/{task_id}/predict",
    summary="Predict with a task",
    responses=problems(404, *BODY),
    openapi_extra=openapi_examples.PREDICT,
)
async def predict(
    request: Request,
    task_id: str,
    service: Predicting,
    options: Annotated[schemas.PredictOptions, Depends(_predict_options)],
    body: QueryBody,
) -> Predictions:
    return timed(await unless_gone(request, service.predict(task_id, body, options)), request)


@router.post(
    "/predict",
    summary="Predict with a support set that is not stored",
    responses=problems(*BODY),
    openapi_extra=openapi_examples.PREDICT_ONCE,
)
async def predict_once(
    request: Request,
    service: Predicting,
    body: SupportBody,
    options: Annotated[schemas.PredictOnceOptions, Query()],
) -> Predictions:
    return timed(await unless_gone(request, service.predict_once(body, options)), request)


@router.post(
    "/predictions/{prediction_id}/feedback",
    status_code=201,
    summary="Give the right answer to the query of a stored prediction: the next version of its task",
    responses=problems(404, 409, 410, *BODY),
    openapi_extra=openapi_examples.FEEDBACK,
)
async def give_feedback(
    request: Request,
    response: Response,
    prediction_id: str,
    service: GivingFeedback,
    body: JsonBody,
    claim: JsonClaim,
    _options: NoQuery,
) -> Task:
    made = await service.give(prediction_id, prepare.feedback(body), claim)
    response.headers.update(made.headers)
    return timed(made.task, request)


def _json_response(body: bytes) -> Response:
    """Return a response whose body was made off the event loop."""
    return Response(body, media_type="application/json")


def _changed(revised: RevisedTask, response: Response, request: Request) -> Task:
    """Return a task after a change that reports its total time alone."""
    response.headers["ETag"] = etag(revised.revision)
    return timed(revised.task.model_copy(update={"timing": None}), request)
