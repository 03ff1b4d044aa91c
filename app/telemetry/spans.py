"""Spans inside that of a request, for code that knows no HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from opentelemetry import trace

_tracer = trace.get_tracer("hyperserve")
_nothing: AbstractContextManager[trace.Span] = nullcontext(trace.INVALID_SPAN)


def span(name: str, **attributes: Any) -> AbstractContextManager[trace.Span]:
    """Inside the span of a request that is traced; otherwise nothing."""
    if not trace.get_current_span().is_recording():
        return _nothing
    return _tracer.start_as_current_span(name, attributes=attributes)


def forget_query(scope: Mapping[str, Any]) -> None:
    """The query string of a request may hold a name."""
    if scope["query_string"] and (current := trace.get_current_span()).is_recording():
        current.set_attribute("url.query", "REDACTED")
