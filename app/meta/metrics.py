"""/metrics, for Prometheus."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response

from app.http.openapi import problems
from app.telemetry.gauges import JobGauges, StreamGauges
from app.telemetry.metrics import CONTENT_TYPE, exposition

router = APIRouter(tags=["meta"])


@router.head("/metrics", include_in_schema=False)
@router.get(
    "/metrics",
    summary="Counters and times in Prometheus' text format",
    response_class=Response,
    responses={
        **problems(),
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "All metrics."},
    },
)
async def metrics(request: Request) -> Response:
    jobs: JobGauges = request.app.state.job_gauges
    streams: StreamGauges = request.app.state.stream_gauges
    await jobs.read()
    await streams.read()
    request.app.state.sampler.sample()
    return Response(await asyncio.to_thread(exposition, jobs, streams), media_type=CONTENT_TYPE)
