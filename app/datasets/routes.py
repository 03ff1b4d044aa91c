"""/v1/datasets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from app.datasets import openapi_examples
from app.datasets.resources import DatasetResources
from app.datasets.schemas import UploadOptions
from app.datasets.service import LOCATION, MEDIA_TYPES, DatasetService
from app.http.dependencies import NoQuery, PageQuery, TenantStore, options_once
from app.http.idempotency import Claim, Idempotency, IdempotencyKey
from app.http.openapi import BODY, problems
from app.http.upload import ReceivedFile
from hyperserve.types import Dataset, Page

router = APIRouter(prefix="/v1/datasets", tags=["datasets"], dependencies=[Depends(options_once)])


async def _service(request: Request, store: TenantStore) -> DatasetService:
    resources: DatasetResources = request.app.state.datasets
    return DatasetService(resources, store)


Service = Annotated[DatasetService, Depends(_service)]


async def _upload(request: Request, service: Service) -> AsyncIterator[ReceivedFile]:
    async with service.resources.spool.receive(request, MEDIA_TYPES) as upload:
        yield upload


Upload = Annotated[ReceivedFile, Depends(_upload, scope="function")]


async def _claim(
    request: Request, store: TenantStore, upload: Upload, _key: IdempotencyKey = None
) -> AsyncIterator[Claim]:
    async with Idempotency(store).claim(request, upload.sha256) as claim:
        yield claim


FileClaim = Annotated[Claim, Depends(_claim, scope="function")]
"""The turn of a request with an `Idempotency-Key` whose body is a file."""


@router.post(
    "",
    status_code=201,
    summary="Upload a labelled set: a zip of class folders, an npz, or a CSV of vectors",
    responses=problems(409, 410, *BODY, 507),
    openapi_extra=openapi_examples.UPLOAD,
)
async def create_dataset(
    response: Response,
    service: Service,
    upload: Upload,
    claim: FileClaim,
    options: Annotated[UploadOptions, Query()],
) -> Dataset:
    dataset = await service.create(upload, options.name, claim, options.reading)
    response.headers["Location"] = LOCATION.format(id=dataset.id)
    return dataset


@router.get("", summary="Datasets, newest first", responses=problems(422, 503))
async def list_datasets(service: Service, options: PageQuery) -> Page[Dataset]:
    return await service.page(options)


@router.get("/{dataset_id}", summary="One dataset", responses=problems(404, 422, 503))
async def get_dataset(dataset_id: str, service: Service, _options: NoQuery) -> Dataset:
    return await service.get(dataset_id)


@router.delete(
    "/{dataset_id}",
    status_code=204,
    summary="Delete a dataset and its file",
    responses=problems(404, 409, 422, 503),
)
async def delete_dataset(dataset_id: str, service: Service, _options: NoQuery) -> None:
    await service.delete(dataset_id)
