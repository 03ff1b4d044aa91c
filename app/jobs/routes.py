"""/v1/jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent

from app.http.dependencies import Tenant, options_once
from app.http.fields import NoOptions
from app.http.openapi import problems
from app.http.pagination import Cursor
from app.jobs import schemas
from app.jobs.service import PREFIX, JobService
from hyperserve.types import Job, Page

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], dependencies=[Depends(options_once)])


async def _service(request: Request) -> JobService:
    service: JobService = request.app.state.services.jobs
    return service


Service = Annotated[JobService, Depends(_service)]
JobId = Annotated[str, Path(examples=["job_01jd8m6k0v5v4q2c9y7t3n1x0z"])]
NoQuery = Annotated[NoOptions, Query()]


async def _followed(job_id: JobId, service: Service, tenant: Tenant, _options: NoQuery) -> Job:
    # A dependency: once a stream has begun it is too late for a 404.
    return await service.to_follow(tenant, job_id)


@router.get("", summary="Jobs, newest first", responses=problems(422, 503))
async def list_jobs(
    service: Service, tenant: Tenant, options: Annotated[schemas.JobsOptions, Query()]
) -> Page[Job]:
    cursor = None if options.cursor is None else Cursor.decode(options.cursor, PREFIX)
    return await service.page(tenant, cursor, options.limit, options.state, options.kind)


@router.get("/{job_id}", summary="One job", responses=problems(404, 422, 503))
async def get_job(job_id: JobId, service: Service, tenant: Tenant, _options: NoQuery) -> Job:
    return await service.get(tenant, job_id)


@router.get(
    "/{job_id}/events",
    summary="Follow a job",
    description="Server-sent events: `job` with the job at every change, at most once a second, and `end` after "
    "the one that tells its end. A stream that breaks is taken up again with `Last-Event-ID`.",
    responses=problems(404, 422, 503),
    response_class=EventSourceResponse,
)
async def follow_job(
    job: Annotated[Job, Depends(_followed)],
    service: Service,
    tenant: Tenant,
    last_event_id: schemas.LastEventId = None,
) -> AsyncIterator[ServerSentEvent]:
    async for sequence, state in service.follow(tenant, job.id, last_event_id):
        job = state
        yield ServerSentEvent(event="job", id=str(sequence), data=state)
    if job.finished:
        yield ServerSentEvent(event="end", data={"state": job.state})


@router.post(
    "/{job_id}/cancel",
    status_code=202,
    summary="Ask a job to end",
    description="A queued job is cancelled at once, a running one within seconds.",
    responses=problems(404, 409, 422, 503),
)
async def cancel_job(job_id: JobId, service: Service, tenant: Tenant, _options: NoQuery) -> Job:
    return await service.cancel(tenant, job_id)
