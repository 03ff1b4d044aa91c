"""/v1/jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent

from app.http.dependencies import NoQuery, TenantStore, options_once
from app.http.openapi import problems
from app.jobs import schemas
from app.jobs.resources import JobResources
from app.jobs.service import JobService
from hyperserve.types import Job, Page

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], dependencies=[Depends(options_once)])


async def _service(request: Request, store: TenantStore) -> JobService:
    resources: JobResources = request.app.state.jobs
    return JobService(resources.followers, resources.watcher, store)


Service = Annotated[JobService, Depends(_service)]
JobId = Annotated[str, Path(examples=["job_01jd8m6k0v5v4q2c9y7t3n1x0z"])]


async def _followed(job_id: JobId, service: Service, _options: NoQuery) -> Job:
    # A dependency: once a stream has begun it is too late for a 404.
    return await service.check_followable(job_id)


FollowedJob = Annotated[Job, Depends(_followed)]


@router.get("", summary="Jobs, newest first", responses=problems(422, 503))
async def list_jobs(service: Service, options: Annotated[schemas.JobsOptions, Query()]) -> Page[Job]:
    return await service.page(options)


@router.get("/{job_id}", summary="One job", responses=problems(404, 422, 503))
async def get_job(job_id: JobId, service: Service, _options: NoQuery) -> Job:
    return await service.get(job_id)


@router.get(
    "/{job_id}/events",
    summary="Follow a job",
    description="Server-sent events: `job` with the job at every change, at most once a second, and `end` after "
    "the one that tells its end. A stream that breaks is taken up again with `Last-Event-ID`.",
    responses=problems(404, 422, 503),
    response_class=EventSourceResponse,
)
async def follow_job(
    job: FollowedJob, service: Service, last_event_id: schemas.LastEventId = None
) -> AsyncIterator[ServerSentEvent]:
    async for sequence, state in service.follow(job.id, last_event_id):
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
async def cancel_job(job_id: JobId, service: Service, _options: NoQuery) -> Job:
    return await service.cancel(job_id)
