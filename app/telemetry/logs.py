"""Logs of every logger of the process, uvicorn's too: one JSON object per line, or lines for people.

A line names the request that it belongs to. It never holds a label, the name of a task, or the values of local
variables: only what was logged on purpose.
"""

from __future__ import annotations

import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal

import structlog
from opentelemetry import trace

LogFormat = Literal["json", "console"]
request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""Id of the request that this asyncio task answers."""

_RECORD = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName", "color_message"}
"""Attributes of every record; all others are fields given as `extra`."""
_traceback = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
_CHATTY = ("aiosqlite", "alembic.runtime.plugins", "asyncio", "httpcore", "httpx")
_json = structlog.processors.JSONRenderer(ensure_ascii=False)


def config(style: LogFormat, level: str) -> dict[str, Any]:
    """Return the settings for `logging.config.dictConfig`, or for uvicorn's `log_config`."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": f"{__name__}.LineFormatter", "style": style}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"handlers": ["stderr"], "level": level.upper()},
        # They log every statement and every request to a store.
        "loggers": {name: {"level": "WARNING"} for name in _CHATTY},
    }


class LineFormatter(logging.Formatter):
    """Formats a record as one line."""

    def __init__(self, style: LogFormat) -> None:
        super().__init__()
        self._console = _console() if style == "console" else None

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        if request := request_id.get():
            fields["request_id"] = request
        if (span := trace.get_current_span().get_span_context()).is_valid:
            fields["trace_id"] = trace.format_trace_id(span.trace_id)
        fields |= {name: value for name, value in vars(record).items() if name not in _RECORD}
        if self._console is not None:
            if record.exc_info:
                fields["exc_info"] = record.exc_info
            return str(self._console(None, record.levelname, fields))
        if record.exc_info and record.exc_info[0] is not None:
            fields["exception"] = _traceback(record.exc_info)
        return str(_json(None, record.levelname, fields))


def _console() -> structlog.dev.ConsoleRenderer:
    # The pretty tracebacks would show local variables.
    plain = structlog.dev.plain_traceback
    return structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)
