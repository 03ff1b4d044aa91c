"""/v1/streams: making them, registering into them, forgetting, rolling back."""

from __future__ import annotations

from typing import Annotated, TypeVar

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel

from app.datasets.service import MEDIA_TYPES
from app.http import strict_json
from app.http.body import Body, BodyKind, Intake
from app.http.dependencies import Clock, Tenant, options_once, timed, unless_gone
from app.http.etags import IfMatch, IfNoneMatch, etag, unchanged
from app.http.fields import NoOptions, PageOptions
from app.http.idempotency import Idempotency, takes_key
from app.http.openapi import BODY, problems
from app.http.problems import fail
from app.http.validation import validated
from app.streams import openapi_examples, schemas
from app.streams.predict import PredictOptions, StreamAsking
from app.streams.registrations import LOCATION as JOB
from app.streams.registrations import Registrations
from app.streams.service import LOCATION, StreamService, cursor_of, number_cursor
from hyperserve.stream_types import Stream, StreamPredictions, StreamTask, StreamVersion, StreamWork
from hyperserve.types import Page

router = APIRouter(prefix="/v1/streams", tags=["streams"], dependencies=[Depends(options_once)])

_JSON: tuple[BodyKind, ...] = ("json",)
Asked = TypeVar("Asked", bound=BaseModel)


async def _service(request: Request) -> StreamService:
    service: StreamService = request.app.state.services.streams
    return service


async def _registrations(request: Request) -> Registrations:
    service: Registrations = request.app.state.services.registrations
    return service


async def _intake(request: Request) -> Intake:
    intake: Intake = request.app.state.services.intake
    return intake


async def _keys(request: Request) -> Idempotency:
    keys: Idempotency = request.app.state.services.idempotency
    return keys


Service = Annotated[StreamService, Depends(_service)]
Work = Annotated[Registrations, Depends(_registrations)]
Bodies = Annotated[Intake, Depends(_intake)]
Keys = Annotated[Idempotency, Depends(_keys)]
Nothing = Annotated[NoOptions, Query()]
Pages = Annotated[PageOptions, Query()]
Name = Annotated[str, Path(examples=["digits"])]
Task = Annotated[str, Path(examples=["0-1"])]


@router.post(
    "",
    status_code=201,
    summary="Make a stream",
    dependencies=[Depends(takes_key)],
    responses=problems(409, 410, *BODY),
    openapi_extra=openapi_examples.CREATE,
)
async def create_stream(
    request: Request,
    response: Response,
    service: Service,
    tenant: Tenant,
    bodies: Bodies,
    keys: Keys,
    _options: Nothing,
) -> Stream:
    async with bodies.body(request, _JSON) as body, keys.claim(request, tenant, body) as claim:
        stream, revision = await service.create(tenant, _read(schemas.CreateStream, body), claim)
    response.headers.update({"Location": LOCATION.format(name=stream.name), "ETag": etag(revision)})
    return stream


@router.get("", summary="Streams, by name", responses=problems(422, 503))
async def list_streams(service: Service, tenant: Tenant, options: Pages) -> Page[Stream]:
    return await service.page(tenant, cursor_of(options.cursor), options.limit)


@router.get(
    "/{stream}",
    summary="One stream",
    response_model=Stream,
    responses=openapi_examples.CACHEABLE | problems(404, 422, 503),
)
async def get_stream(
    stream: Name, response: Response, service: Service, tenant: Tenant, known: IfNoneMatch, _options: Nothing
) -> Stream | Response:
    answer, revision = await service.get(tenant, stream)
    if unchanged(known, revision):
        return Response(status_code=304, headers={"ETag": etag(revision)})
    response.headers["ETag"] = etag(revision)
    return answer


@router.delete(
    "/{stream}",
    status_code=204,
    summary="Delete a stream, its versions and what they have learned",
    responses=problems(404, 409, 412, 422, 503),
)
async def delete_stream(
    stream: Name, service: Service, tenant: Tenant, condition: IfMatch, _options: Nothing
) -> None:
    await service.delete(tenant, stream, condition)


@router.post(
    "/{stream}/tasks",
    status_code=202,
    summary="Register a labelled set: a dataset, or a file that becomes one",
    description="The file may come alone or as the one part of a form; its options are in the query string.",
    dependencies=[Depends(takes_key)],
    responses=problems(404, 409, 410, *BODY, 507),
    openapi_extra=openapi_examples.REGISTER,
)
async def register_stream_task(
    request: Request,
    response: Response,
    stream: Name,
    work: Work,
    tenant: Tenant,
    bodies: Bodies,
    keys: Keys,
    options: Annotated[schemas.RegisterOptions, Query()],
) -> StreamWork:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type in ("", "application/json"):
        async with bodies.body(request, _JSON) as body, keys.claim(request, tenant, body) as claim:
            wanted = validated(schemas.RegisterTask, strict_json.parse(body.data), options)
            answer = await work.register(tenant, stream, wanted, claim)
    else:
        if options.name is None:
            raise fail("missing", "The stream task needs a name, in the query string.", "/name")
        async with (
            work.datasets.spool.receive(request, MEDIA_TYPES) as upload,
            keys.claim(request, tenant, upload.sha256) as claim,
        ):
            answer = await work.upload(tenant, stream, options.name, options.held_out, upload, claim)
    response.headers["Location"] = JOB.format(id=answer.job.id)
    return answer


@router.get(
    "/{stream}/tasks",
    summary="Stream tasks: how well each is answered, how far it has drifted",
    responses=problems(404, 422, 503),
)
async def list_stream_tasks(
    stream: Name, service: Service, tenant: Tenant, _options: Nothing
) -> Page[StreamTask]:
    return await service.tasks(tenant, stream)


@router.get("/{stream}/tasks/{task}", summary="One stream task", responses=problems(404, 422, 503))
async def get_stream_task(
    stream: Name, task: Task, service: Service, tenant: Tenant, _options: Nothing
) -> StreamTask:
    return await service.task(tenant, stream, task)


@router.post(
    "/{stream}/tasks/{task}/forget",
    status_code=202,
    summary="Forget a stream task: it is taken out, and every version that holds it is deleted",
    dependencies=[Depends(takes_key)],
    responses=problems(404, 409, 410, 422, 503),
    openapi_extra=openapi_examples.FORGET,
)
async def forget_stream_task(
    request: Request,
    response: Response,
    stream: Name,
    task: Task,
    work: Work,
    tenant: Tenant,
    keys: Keys,
    _options: Nothing,
) -> StreamWork:
    async with keys.claim(request, tenant) as claim:
        answer = await work.forget(tenant, stream, task, claim)
    response.headers["Location"] = JOB.format(id=answer.job.id)
    return answer


@router.get("/{stream}/versions", summary="Versions, newest first", responses=problems(404, 422, 503))
async def list_stream_versions(
    stream: Name, service: Service, tenant: Tenant, options: Pages
) -> Page[StreamVersion]:
    return await service.versions(tenant, stream, number_cursor(options.cursor), options.limit)


@router.post(
    "/{stream}/rollback",
    summary="Let another version answer",
    responses=problems(404, 409, 412, *BODY),
    openapi_extra=openapi_examples.ROLLBACK,
)
async def roll_stream_back(
    request: Request,
    response: Response,
    stream: Name,
    service: Service,
    tenant: Tenant,
    bodies: Bodies,
    condition: IfMatch,
    _options: Nothing,
) -> Stream:
    async with bodies.body(request, _JSON) as body:
        wanted = _read(schemas.Rollback, body)
    answer, revision = await service.rollback(tenant, stream, wanted.version, condition)
    response.headers["ETag"] = etag(revision)
    return answer


def _read(model: type[Asked], body: Body) -> Asked:
    return validated(model, strict_json.parse(body.data))


async def _asking(request: Request) -> StreamAsking:
    asking: StreamAsking = request.app.state.services.stream_asking
    return asking


@router.post(
    "/{stream}/predict",
    summary="Ask a stream",
    responses=problems(404, 409, 410, *BODY),
    openapi_extra=openapi_examples.PREDICT,
)
async def predict_stream(
    request: Request,
    stream: str,
    asking: Annotated[StreamAsking, Depends(_asking)],
    tenant: Tenant,
    timing: Clock,
    bodies: Bodies,
    options: Annotated[PredictOptions, Query()],
) -> StreamPredictions:
    """The stream task may be named; else it is inferred for each query, and the answer says which it is."""
    await asking.check(tenant, stream, options.version)
    async with bodies.body(request, ("json", "multipart", "image")) as body:
        work = asking.predict(tenant, stream, body, options, timing)
        return timed(await unless_gone(request, work), request)
