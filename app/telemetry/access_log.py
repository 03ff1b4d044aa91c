"""One line and two metrics for every request."""

from __future__ import annotations

import logging
import time
from functools import lru_cache

from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.telemetry import logs
from app.telemetry.metrics import REQUEST_SECONDS, REQUESTS
from app.telemetry.spans import redact_query

UNMATCHED = "unmatched"
ABORTED = "aborted"
"""Status of a request that ended before its response began."""
QUIET = frozenset({"/livez", "/readyz", "/metrics"})
"""Routes that machines call every few seconds: logged at debug only."""
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

log = logging.getLogger("hyperserve.access")


class AccessLog:
    """Middleware inside `RequestContext`, around everything else. Neither line nor metric holds a raw path."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        state = scope["state"]
        started: float = state["started"]
        logs.request_id.set(state["request_id"])
        redact_query(scope)
        status: int | str = ABORTED
        seconds = 0.0

        async def watched(message: Message) -> None:
            nonlocal status, seconds
            if message["type"] == "http.response.start":
                status = message["status"]
                seconds = time.perf_counter() - started
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception:
            status = 500 if status == ABORTED else status
            raise
        finally:
            whole = time.perf_counter() - started
            route = scope.get("route")
            template = getattr(route, "path_format", None) or getattr(route, "path", None) or UNMATCHED
            method = scope["method"] if scope["method"] in _METHODS else "OTHER"
            _count(template, method, status, seconds or whole)
            level = logging.DEBUG if template in QUIET else logging.INFO
            if log.isEnabledFor(level):
                fields = {
                    "method": method,
                    "route": template,
                    "status": status,
                    "ms": round(whole * 1e3, 3),
                    "tenant": state.get("tenant"),
                }
                log.log(level, "request", extra=fields)


def _count(template: str, method: str, status: int | str, seconds: float) -> None:
    _requests(template, method, status).inc()
    _request_seconds(template, method).observe(seconds)


# Looking a child up by its labels costs more than counting.
@lru_cache(1024)
def _requests(template: str, method: str, status: int | str) -> Counter:
    return REQUESTS.labels(template, method, str(status))


@lru_cache(256)
def _request_seconds(template: str, method: str) -> Histogram:
    return REQUEST_SECONDS.labels(template, method)
