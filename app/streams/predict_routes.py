"""Asking a stream."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from app.http.context import Clock, Tenant, options_once, timed, unless_gone
from app.http.openapi import BODY, problems
from app.streams import predict_documents
from app.streams.asking import StreamAsking
from app.streams.queries import PredictOptions
from app.tasks.routes import Bodies
from hyperserve.stream_types import StreamPredictions

router = APIRouter(prefix="/v1", tags=["streams"], dependencies=[Depends(options_once)])


async def _asking(request: Request) -> StreamAsking:
    asking: StreamAsking = request.app.state.services.stream_asking
    return asking


@router.post(
    "/streams/{stream}/predict",
    summary="Ask a stream",
    responses=problems(404, 409, 410, *BODY),
    openapi_extra=predict_documents.PREDICT,
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
