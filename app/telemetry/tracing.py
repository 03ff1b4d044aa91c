"""OpenTelemetry: spans of requests and their phases, for a collector named by OTEL_* variables.

FastAPI makes the span of a request; ours lie inside it. Without the extra, or if disabled, tracing costs nothing.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fastapi.telemetry import TelemetryConfig
from opentelemetry import trace

from app.core.errors import AppError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
DISABLED = "OTEL_SDK_DISABLED"
FLUSH_SECONDS = 1.0
QUIET = frozenset({"/livez", "/readyz", "/metrics"})
"""Routes that machines call every few seconds."""

# Metrics and logs are exported otherwise; spans of FastAPI's inner steps are of no use.
CONFIG = TelemetryConfig(
    metrics=False,
    logs=False,
    operation_spans=False,
    auto_configure=False,
    exclude=lambda scope: scope["path"] in QUIET,
)


class TracingError(AppError):
    """Tracing is configured, but the extra is not installed."""


def is_configured(environment: Mapping[str, str] = os.environ) -> bool:
    return (
        any(environment.get(name) for name in ENDPOINTS)
        and environment.get(DISABLED, "").lower() != "true"
        and environment.get("OTEL_TRACES_EXPORTER", "otlp") != "none"
    )


@contextmanager
def exporting(version: str, exporter: SpanExporter | None = None) -> Iterator[None]:
    """Export spans during the block, if that is configured. Raises `TracingError`."""
    if exporter is None and not is_configured():
        yield
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise TracingError(
            f"{' or '.join(ENDPOINTS)} enables tracing, which needs an extra: pip install 'hyperserve[otel]'"
        ) from error
    name = os.environ.get("OTEL_SERVICE_NAME") or "hyperserve"
    resource = Resource.create({SERVICE_NAME: name, SERVICE_VERSION: version})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    try:
        yield
    finally:
        # A collector that does not answer must not keep the process.
        flush = threading.Thread(target=provider.shutdown, name="tracing", daemon=True)
        flush.start()
        flush.join(FLUSH_SECONDS)
