"""/v1/datasets."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from pydantic import Field

from app.datasets import openapi_examples
from app.datasets.dependencies import FileClaim, ReceivedFile, Service
from app.datasets.service import LOCATION
from app.http.dependencies import NoQuery, PageQuery, options_once
from app.http.fields import Name, Options
from app.http.openapi import BODY, problems
from hyperserve.types import Dataset, Page

router = APIRouter(prefix="/v1/datasets", tags=["datasets"], dependencies=[Depends(options_once)])


class UploadOptions(Options):
    name: Name | None = Field(default=None, description="A name for people; need not be unique.")


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
    upload: ReceivedFile,
    claim: FileClaim,
    options: Annotated[UploadOptions, Query()],
) -> Dataset:
    dataset = await service.create(upload, options.name, claim)
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
