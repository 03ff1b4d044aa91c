"""/v1/datasets."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import Field

from app.datasets import openapi_examples
from app.datasets.service import LOCATION, MEDIA_TYPES, DatasetService
from app.http.dependencies import Tenant, options_once
from app.http.fields import Name, NoOptions, Options, PageOptions
from app.http.idempotency import takes_key
from app.http.openapi import BODY, problems
from app.http.pagination import Cursor
from hyperserve.types import Dataset, Page

router = APIRouter(prefix="/v1/datasets", tags=["datasets"], dependencies=[Depends(options_once)])


class UploadOptions(Options):
    name: Name | None = Field(default=None, description="A name for people; need not be unique.")


async def _service(request: Request) -> DatasetService:
    service: DatasetService = request.app.state.services.datasets
    return service


Service = Annotated[DatasetService, Depends(_service)]


@router.post(
    "",
    status_code=201,
    summary="Upload a labelled set: a zip of class folders, an npz, or a CSV of vectors",
    dependencies=[Depends(takes_key)],
    responses=problems(409, 410, *BODY, 507),
    openapi_extra=openapi_examples.UPLOAD,
)
async def create_dataset(
    request: Request,
    response: Response,
    service: Service,
    tenant: Tenant,
    options: Annotated[UploadOptions, Query()],
) -> Dataset:
    async with (
        service.spool.receive(request, MEDIA_TYPES) as upload,
        request.app.state.services.idempotency.claim(request, tenant, upload.sha256) as claim,
    ):
        dataset = await service.create(tenant, upload, options.name, claim)
    response.headers["Location"] = LOCATION.format(id=dataset.id)
    return dataset


@router.get("", summary="Datasets, newest first", responses=problems(422, 503))
async def list_datasets(
    service: Service, tenant: Tenant, options: Annotated[PageOptions, Query()]
) -> Page[Dataset]:
    cursor = None if options.cursor is None else Cursor.decode(options.cursor, "ds")
    return await service.page(tenant, cursor, options.limit)


@router.get("/{dataset_id}", summary="One dataset", responses=problems(404, 422, 503))
async def get_dataset(
    dataset_id: str, service: Service, tenant: Tenant, _options: Annotated[NoOptions, Query()]
) -> Dataset:
    return await service.get(tenant, dataset_id)


@router.delete(
    "/{dataset_id}",
    status_code=204,
    summary="Delete a dataset and its file",
    responses=problems(404, 409, 422, 503),
)
async def delete_dataset(
    dataset_id: str, service: Service, tenant: Tenant, _options: Annotated[NoOptions, Query()]
) -> None:
    await service.delete(tenant, dataset_id)
