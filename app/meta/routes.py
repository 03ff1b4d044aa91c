"""What the server says of itself: limits, health, and what its problems mean."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel

from app.db.free_space import is_low
from app.http.limits import LIMITS
from app.http.openapi import problems
from app.http.problem_codes import PROBLEM_CODES, ProblemCode
from app.http.problems import fail
from app.runtime import Runtime
from hyperserve.types import Health, Limits, Page

router = APIRouter(tags=["meta"])


class ProblemKind(BaseModel):
    """What a problem code means, and what to do about it."""

    code: str
    status: int
    title: str
    detail: str


@router.get("/v1/limits", summary="What the server accepts at most", responses=problems())
async def get_limits() -> Limits:
    return LIMITS


@router.head("/livez", include_in_schema=False)
@router.get("/livez", summary="Whether the process runs", responses=problems())
async def livez() -> Health:
    return Health(status="ok")


@router.head("/readyz", include_in_schema=False)
@router.get(
    "/readyz", summary="Whether learners are warm and the database answers", responses=problems(503, 507)
)
async def readyz(request: Request) -> Health:
    if request.app.state.draining:
        raise fail("draining", "The server is stopping.", headers={"Retry-After": "5"})
    if not request.app.state.ready:
        raise fail("starting", "Learners are being loaded.", headers={"Retry-After": "1"})
    runtime: Runtime = request.app.state.runtime
    if not runtime.engine.alive:
        raise fail(
            "busy", "The compute thread has ended; start the service again.", headers={"Retry-After": "5"}
        )
    if reason := runtime.cluster.watcher.away:
        raise fail("database_unavailable", f"Not ready: {reason}.", headers={"Retry-After": "2"})
    if runtime.blobs.is_full or is_low(runtime.settings.data_dir):
        raise fail(
            "storage_full", "Not ready to create: there is little room on the disk; deletions make room."
        )
    return Health(status="ok")


@router.get("/problems", summary="All problem codes", responses=problems())
async def list_problems() -> Page[ProblemKind]:
    return Page[ProblemKind](items=[_kind(code, entry) for code, entry in PROBLEM_CODES.items()])


@router.get("/problems/{code}", summary="What a problem code means", responses=problems(404))
async def get_problem(code: Annotated[str, Path(examples=["busy"])]) -> ProblemKind:
    if code not in PROBLEM_CODES:
        raise fail("not_found", "There is no such problem code.")
    return _kind(code, PROBLEM_CODES[code])


def _kind(code: str, entry: ProblemCode) -> ProblemKind:
    return ProblemKind(code=code, status=entry.status, title=entry.title, detail=entry.text)
