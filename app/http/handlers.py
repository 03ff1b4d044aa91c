"""The handlers that turn exceptions into problem documents."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import Scope

from app.http.idempotency import ReplayError
from app.http.problems import ProblemError, fail, response
from app.http.validation import faults

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
log = logging.getLogger("hyperserve")

Translation = Callable[[Any], ProblemError]


def install(app: FastAPI, translations: Mapping[type[Exception], Translation]) -> None:
    """Handle the exceptions of this layer, and those of lower layers, by what `translations` makes of each."""

    async def problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, ProblemError)
        return response(error, request.scope)

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return response(ProblemError(faults(error.errors(), skip=1)), request.scope)

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return response(_http_problem(app, request.scope, error.status_code), request.scope)

    async def internal(request: Request, _error: Exception) -> Response:
        # Starlette re-raises after answering, so the server logs the traceback; this names the request.
        log.error("request %s failed", request.scope.get("state", {}).get("request_id"))
        answer = response(fail("internal_error", "The server failed to answer."), request.scope)
        # It also makes the server close the connection, of which the client must be told.
        answer.headers["Connection"] = "close"
        answer.headers["X-Request-Id"] = request.scope.get("state", {}).get("request_id", "")
        return answer

    def translated(translate: Translation) -> Callable[[Request, Exception], Any]:
        async def handle(request: Request, error: Exception) -> Response:
            return response(translate(error), request.scope)

        return handle

    async def replay(request: Request, error: Exception) -> Response:
        assert isinstance(error, ReplayError)
        return error.response

    app.add_exception_handler(ProblemError, problem)
    app.add_exception_handler(ReplayError, replay)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, internal)
    for kind, translate in translations.items():
        app.add_exception_handler(kind, translated(translate))


def _http_problem(app: FastAPI, scope: Scope, status: int) -> ProblemError:
    if status == 404:
        return fail("not_found", "There is nothing at this address.")
    if status == 405:
        allow = ", ".join(allowed(app, scope))
        problem = fail("method_not_allowed", f"This address supports {allow}.")
        problem.headers["Allow"] = allow
        return problem
    # Nothing in this project raises the others.
    return fail("internal_error", f"The server failed with status {status}.")


def allowed(app: FastAPI, scope: Scope) -> list[str]:
    """Return all methods of an address: each of its routes knows only its own."""
    return [
        method
        for method in METHODS
        if any(route.matches({**scope, "method": method})[0] is Match.FULL for route in app.routes)
    ]
