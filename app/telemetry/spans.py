"""Spans inside the span of a request, for code without HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from opentelemetry import trace

_tracer = trace.get_tracer("hyperserve")
_nothing: AbstractContextManager[trace.Span] = nullcontext(trace.INVALID_SPAN)


def span(name: str, **attributes: Any) -> AbstractContextManager[trace.Span]:
    """Open a span inside that of a traced request; without one, do nothing."""
    if not trace.get_current_span().is_recording():
        return _nothing
    return _tracer.start_as_current_span(name, attributes=attributes)


def redact_query(scope: Mapping[str, Any]) -> None:
    """Redact the query string of a traced request: it may hold a name."""
    if scope["query_string"] and (current := trace.get_current_span()).is_recording():
        current.set_attribute("url.query", "REDACTED")
