"""/v1/streams: create, list and delete streams, register and forget stream tasks, roll back, predict."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from app.datasets.service import MEDIA_TYPES
from app.http import strict_json
from app.http.body import Body, BodyKind, BodyReader
from app.http.dependencies import (
    BodilessClaim,
    JsonClaim,
    NoQuery,
    PageQuery,
    QueryBody,
    TenantStore,
    document,
    options_once,
    timed,
    unless_gone,
)
from app.http.etags import IfMatch, IfNoneMatch, etag, unchanged
from app.http.idempotency import Claim, Idempotency, IdempotencyKey
from app.http.openapi import BODY, problems
from app.http.problems import fail
from app.http.upload import ReceivedFile
from app.http.validation import validated
from app.streams import openapi_examples
from app.streams.predict import StreamPredictService
from app.streams.registrations import JOB_LOCATION, StreamRegistrations
from app.streams.resources import StreamResources
from app.streams.schemas import CreateStream, RegisterOptions, RegisterTask, Rollback, StreamPredictOptions
from app.streams.service import LOCATION, StreamService
from hyperserve.stream_types import Stream, StreamPredictions, StreamTask, StreamVersion, StreamWork
from hyperserve.types import Page

router = APIRouter(prefix="/v1/streams", tags=["streams"], dependencies=[Depends(options_once)])


async def _resources(request: Request) -> StreamResources:
    resources: StreamResources = request.app.state.streams
    return resources


Resources = Annotated[StreamResources, Depends(_resources)]


async def _service(resources: Resources, store: TenantStore) -> StreamService:
    return StreamService(resources, store)


async def _registrations(resources: Resources, store: TenantStore) -> StreamRegistrations:
    return StreamRegistrations(resources, store)


async def _predict_service(resources: Resources, store: TenantStore) -> StreamPredictService:
    return StreamPredictService(resources, store)


Service = Annotated[StreamService, Depends(_service)]
Registrations = Annotated[StreamRegistrations, Depends(_registrations)]
Predictor = Annotated[StreamPredictService, Depends(_predict_service)]
Name = Annotated[str, Path(examples=["digits"])]
Task = Annotated[str, Path(examples=["0-1"])]
_JSON: tuple[BodyKind, ...] = ("json",)


async def _labelled_set(
    request: Request, resources: Resources, options: Annotated[RegisterOptions, Query()]
) -> AsyncIterator[Body | ReceivedFile]:
    """Yield JSON that names a dataset, or the file that becomes one."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type in ("", "application/json"):
        reader: BodyReader = request.app.state.body_reader
        async with reader.body(request, _JSON) as body:
            yield body
        return
    if options.name is None:
        raise fail("missing", "The stream task needs a name, in the query string.", "/name")
    async with resources.datasets.spool.receive(request, MEDIA_TYPES) as upload:
        yield upload


LabelledSet = Annotated[Body | ReceivedFile, Depends(_labelled_set, scope="function")]


async def _labelled_set_claim(
    request: Request, store: TenantStore, labelled_set: LabelledSet, _key: IdempotencyKey = None
) -> AsyncIterator[Claim]:
    body = labelled_set.sha256 if isinstance(labelled_set, ReceivedFile) else labelled_set
    async with Idempotency(store).claim(request, body) as claim:
        yield claim


LabelledSetClaim = Annotated[Claim, Depends(_labelled_set_claim, scope="function")]


async def _existing_version(
    stream: str, predictor: Predictor, options: Annotated[StreamPredictOptions, Query()]
) -> StreamPredictOptions:
    # Before the body: a request to a stream that does not exist need not send one.
    await predictor.check(stream, options.version)
    return options


@router.post(
    "",
    status_code=201,
    summary="Create a stream",
    responses=problems(409, 410, *BODY),
    openapi_extra=openapi_examples.CREATE,
)
async def create_stream(
    response: Response,
    service: Service,
    claim: JsonClaim,
    body: Annotated[CreateStream, Depends(document(CreateStream))],
) -> Stream:
    stream, revision = await service.create(body, claim)
    response.headers.update({"Location": LOCATION.format(name=stream.name), "ETag": etag(revision)})
    return stream


@router.get("", summary="List streams, by name", responses=problems(422, 503))
async def list_streams(service: Service, options: PageQuery) -> Page[Stream]:
    return await service.page(options)


@router.get(
    "/{stream}",
    summary="Get a stream",
    response_model=Stream,
    responses=openapi_examples.CACHEABLE | problems(404, 422, 503),
)
async def get_stream(
    stream: Name, response: Response, service: Service, known: IfNoneMatch, _options: NoQuery
) -> Stream | Response:
    answer, revision = await service.get(stream)
    if unchanged(known, revision):
        return Response(status_code=304, headers={"ETag": etag(revision)})
    response.headers["ETag"] = etag(revision)
    return answer


@router.delete(
    "/{stream}",
    status_code=204,
    summary="Delete a stream, its versions and everything they have learned",
    responses=problems(404, 409, 412, 422, 503),
)
async def delete_stream(stream: Name, service: Service, condition: IfMatch, _options: NoQuery) -> None:
    await service.delete(stream, condition)


@router.post(
    "/{stream}/tasks",
    status_code=202,
    summary="Register a labelled set: a dataset, or a file that becomes one",
    description="The file is the body, or the only part of a form; its options are in the query string.",
    responses=problems(404, 409, 410, *BODY, 507),
    openapi_extra=openapi_examples.REGISTER,
)
async def register_stream_task(
    response: Response,
    stream: Name,
    registrations: Registrations,
    labelled_set: LabelledSet,
    claim: LabelledSetClaim,
    options: Annotated[RegisterOptions, Query()],
) -> StreamWork:
    if isinstance(labelled_set, ReceivedFile):
        assert options.name is not None
        answer = await registrations.upload(stream, options.name, options, labelled_set, claim)
    else:
        request = validated(RegisterTask, strict_json.parse(labelled_set.data), options)
        answer = await registrations.register(stream, request, claim)
    response.headers["Location"] = JOB_LOCATION.format(id=answer.job.id)
    return answer


@router.get(
    "/{stream}/tasks",
    summary="List stream tasks with their accuracy and drift",
    responses=problems(404, 422, 503),
)
async def list_stream_tasks(stream: Name, service: Service, _options: NoQuery) -> Page[StreamTask]:
    return await service.tasks(stream)


@router.get("/{stream}/tasks/{task}", summary="Get a stream task", responses=problems(404, 422, 503))
async def get_stream_task(stream: Name, task: Task, service: Service, _options: NoQuery) -> StreamTask:
    return await service.task(stream, task)


@router.post(
    "/{stream}/tasks/{task}/forget",
    status_code=202,
    summary="Forget a stream task: remove it, and delete every version that holds it",
    responses=problems(404, 409, 410, 422, 503),
    openapi_extra=openapi_examples.FORGET,
)
async def forget_stream_task(
    response: Response,
    stream: Name,
    task: Task,
    registrations: Registrations,
    claim: BodilessClaim,
    _options: NoQuery,
) -> StreamWork:
    answer = await registrations.forget(stream, task, claim)
    response.headers["Location"] = JOB_LOCATION.format(id=answer.job.id)
    return answer


@router.get("/{stream}/versions", summary="List versions, newest first", responses=problems(404, 422, 503))
async def list_stream_versions(stream: Name, service: Service, options: PageQuery) -> Page[StreamVersion]:
    return await service.versions(stream, options)


@router.post(
    "/{stream}/rollback",
    summary="Make another version current",
    responses=problems(404, 409, 412, *BODY),
    openapi_extra=openapi_examples.ROLLBACK,
)
async def roll_stream_back(
    response: Response,
    stream: Name,
    service: Service,
    body: Annotated[Rollback, Depends(document(Rollback))],
    condition: IfMatch,
) -> Stream:
    answer, revision = await service.rollback(stream, body.version, condition)
    response.headers["ETag"] = etag(revision)
    return answer


@router.post(
    "/{stream}/predict",
    summary="Predict with a stream",
    responses=problems(404, 409, 410, *BODY),
    openapi_extra=openapi_examples.PREDICT,
)
async def predict_stream(
    request: Request,
    stream: str,
    predictor: Predictor,
    options: Annotated[StreamPredictOptions, Depends(_existing_version)],
    body: QueryBody,
) -> StreamPredictions:
    """The stream task may be named; otherwise it is inferred for each query, and the answer reports it."""
    return timed(await unless_gone(request, predictor.predict(stream, body, options)), request)
