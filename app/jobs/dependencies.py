"""The part of jobs that lives as long as the process, and the service of a request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Path, Request

from app.http.dependencies import NoQuery, TenantStore
from app.jobs.events import Followers
from app.jobs.service import JobService
from hyperserve.types import Job


@dataclass(frozen=True)
class JobResources:
    followers: Followers


async def _service(request: Request, store: TenantStore) -> JobService:
    resources: JobResources = request.app.state.jobs
    return JobService(resources.followers, store)


Service = Annotated[JobService, Depends(_service)]
JobId = Annotated[str, Path(examples=["job_01jd8m6k0v5v4q2c9y7t3n1x0z"])]


async def _followed(job_id: JobId, service: Service, _options: NoQuery) -> Job:
    # A dependency: once a stream has begun it is too late for a 404.
    return await service.check_followable(job_id)


FollowedJob = Annotated[Job, Depends(_followed)]
