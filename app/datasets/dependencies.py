"""The part of datasets that lives as long as the process, and what a request is given."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from app.datasets.service import MEDIA_TYPES, DatasetService
from app.http.dependencies import TenantStore
from app.http.idempotency import Claim, Idempotency, IdempotencyKey
from app.http.limits import LIMITS
from app.http.upload import Spool, Upload
from app.runtime import Runtime

UPLOADS = 4
"""Datasets that are received at a time; each lies on the disk until it is in the blob store."""


@dataclass(frozen=True)
class DatasetResources:
    spool: Spool

    @classmethod
    def open(cls, runtime: Runtime) -> DatasetResources:
        seconds = runtime.settings.body_seconds
        return cls(Spool(runtime.scratch, most=LIMITS.dataset_bytes, at_once=UPLOADS, seconds=seconds))


async def _service(request: Request, store: TenantStore) -> DatasetService:
    resources: DatasetResources = request.app.state.datasets
    return DatasetService(resources.spool, store)


Service = Annotated[DatasetService, Depends(_service)]


async def _upload(request: Request, service: Service) -> AsyncIterator[Upload]:
    async with service.spool.receive(request, MEDIA_TYPES) as upload:
        yield upload


ReceivedFile = Annotated[Upload, Depends(_upload, scope="function")]


async def _claim(
    request: Request, store: TenantStore, upload: ReceivedFile, _key: IdempotencyKey = None
) -> AsyncIterator[Claim]:
    async with Idempotency(store).claim(request, upload.sha256) as claim:
        yield claim


FileClaim = Annotated[Claim, Depends(_claim, scope="function")]
"""The turn of a request with an `Idempotency-Key` whose body is a file."""
