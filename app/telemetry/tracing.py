"""OpenTelemetry: spans of requests, and of what takes their time, for a collector named by OTEL_* variables.

FastAPI makes the span of a request; ours lie inside it. Without the extra, or unasked, all of it costs nothing.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fastapi.telemetry import TelemetryConfig
from opentelemetry import trace

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
DISABLED = "OTEL_SDK_DISABLED"
FLUSH_SECONDS = 1.0
QUIET = frozenset({"/livez", "/readyz", "/metrics"})
"""Asked every few seconds by machines."""

# Metrics and logs have ways of their own; spans of FastAPI's inner steps would tell nothing.
CONFIG = TelemetryConfig(
    metrics=False,
    logs=False,
    operation_spans=False,
    auto_configure=False,
    exclude=lambda scope: scope["path"] in QUIET,
)


class TracingError(AppError):
    """Tracing is asked for and cannot be had."""


def asked(environment: Mapping[str, str] = os.environ) -> bool:
    return (
        any(environment.get(name) for name in ENDPOINTS)
        and environment.get(DISABLED, "").lower() != "true"
        and environment.get("OTEL_TRACES_EXPORTER", "otlp") != "none"
    )


@contextmanager
def exporting(version: str, exporter: SpanExporter | None = None) -> Iterator[None]:
    """While the block lasts spans are sent, if that is asked for. Raises `TracingError`."""
    if exporter is None and not asked():
        yield
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise TracingError(
            f"{' or '.join(ENDPOINTS)} asks for tracing, which needs an extra: pip install 'hyperserve[otel]'"
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
