"""Problem documents (RFC 9457): the form of every error response. Input is never echoed."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fastapi.responses import Response
from starlette.types import Scope

from app.core.errors import AppError
from app.http.limits import ERRORS_MAX
from app.http.problem_codes import PROBLEM_CODES
from hyperserve.types import Problem, ProblemItem

MEDIA_TYPE = "application/problem+json"
TOKEN_MAX = 200


@dataclass(frozen=True)
class Fault:
    """One fault of a request, at a JSON Pointer."""

    code: str
    detail: str
    pointer: str | None = None
    limit: float | None = None


class ProblemError(AppError):
    """Ends a request with a problem document. Its code and status are those of its faults if they agree."""

    def __init__(
        self,
        faults: Fault | Sequence[Fault],
        *,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.faults = [faults] if isinstance(faults, Fault) else list(faults)
        codes = {fault.code for fault in self.faults}
        statuses = {PROBLEM_CODES[code].status for code in codes}
        self.code = codes.pop() if len(codes) == 1 else "invalid_request"
        self.status = statuses.pop() if len(statuses) == 1 else PROBLEM_CODES["invalid_request"].status
        self.headers = dict(headers or {})
        super().__init__(self.code)

    def document(self, request_id: str) -> Problem:
        entry = PROBLEM_CODES[self.code]
        pointed = [fault for fault in self.faults if fault.pointer is not None]
        detail = self.faults[0].detail
        if len(self.faults) > 1:
            shown = f", the first {ERRORS_MAX} of them in errors" if len(self.faults) > ERRORS_MAX else ""
            detail = f"{len(self.faults)} errors{shown}."
        return Problem(
            type=f"/problems/{self.code}",
            title=entry.title,
            status=self.status,
            detail=detail,
            code=self.code,
            request_id=request_id,
            errors=[
                ProblemItem(pointer=fault.pointer, code=fault.code, detail=fault.detail, limit=fault.limit)
                for fault in pointed[:ERRORS_MAX]
            ],
        )


def fail(
    code: str,
    detail: str,
    pointer: str | None = None,
    limit: float | None = None,
    headers: Mapping[str, str] | None = None,
) -> ProblemError:
    """Return a problem of one fault, to be raised."""
    return ProblemError(Fault(code, detail, pointer, limit), headers=headers)


def pointer(path: Iterable[str | int]) -> str:
    """Return a JSON Pointer (RFC 6901). It ends above a name too long or too odd to be repeated in a response."""
    tokens = []
    for token in path:
        if isinstance(token, str) and not repeatable(token):
            break
        tokens.append(str(token).replace("~", "~0").replace("/", "~1"))
    return "".join(f"/{token}" for token in tokens)


def repeatable(text: str) -> bool:
    """Return true if a name from a request may be repeated in the response: short, without control characters."""
    return len(text) <= TOKEN_MAX and (
        (text.isascii() and text.isprintable()) or all(unicodedata.category(c)[0] != "C" for c in text)
    )


def response(problem: ProblemError, scope: Scope) -> Response:
    """Return the response to send. The request id is the one that the middleware gave the request."""
    request_id: str = scope.get("state", {}).get("request_id", "")
    body = problem.document(request_id).model_dump_json()
    return Response(body, status_code=problem.status, media_type=MEDIA_TYPE, headers=problem.headers)
