"""Spans of a request, exported to a collector."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import httpx
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from app.core.settings import Settings
from app.main import create_app
from app.telemetry import tracing
from app.telemetry.spans import span
from tests.app.problems import OK


def test_a_request_and_what_takes_its_time(zoo: Path, tmp_path: Path) -> None:
    exporter = InMemorySpanExporter()

    async def requests() -> None:
        app = create_app(Settings(data_dir=tmp_path, learners_dir=zoo))
        with tracing.exporting("test", exporter):
            async with (
                app.router.lifespan_context(app),
                httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client,
            ):
                headers = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
                body = {"support": {"a": OK, "b": OK}}
                made = await client.post("/v1/tasks?name=secret", json=body, headers=headers)
                assert made.status_code == 201
                await client.post(f"/v1/tasks/{made.json()['id']}/predict", json={"queries": OK})
                await client.get("/livez")

    asyncio.run(requests())
    spans = exporter.get_finished_spans()
    create, predict = (
        next(found for found in spans if found.name == f"POST {route}")
        for route in ("/v1/tasks", "/v1/tasks/{task_id}/predict")
    )
    assert _children(spans, create) == ["decode", "adapt"]
    assert _children(spans, predict) == ["decode", "predict"]
    assert len(spans) == 6
    assert create.parent is not None
    assert f"{create.parent.trace_id:x}" == "a" * 32
    (adapt,) = (found for found in spans if found.name == "adapt")
    assert adapt.attributes is not None
    assert {"examples", "queue_ms", "embed_ms", "adapt_ms"} <= set(adapt.attributes)
    assert all("secret" not in found.to_json() for found in spans)
    assert create.resource.attributes["service.name"] == "hyperserve"


def _children(spans: tuple[ReadableSpan, ...], of: ReadableSpan) -> list[str]:
    found = [
        s for s in spans if s.parent is not None and of.context and s.parent.span_id == of.context.span_id
    ]
    return [child.name for child in sorted(found, key=lambda child: child.start_time or 0)]


def test_outside_a_traced_request_there_are_none() -> None:
    with span("adapt", examples=3) as nothing:
        assert not nothing.is_recording()


@pytest.mark.parametrize(
    ("environment", "configured"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_is_configured(environment: dict[str, str], configured: bool) -> None:
    assert tracing.is_configured(environment) is configured


def test_without_the_extra_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with (
        pytest.raises(tracing.TracingError, match=r"pip install 'hyperserve\[otel\]'"),
        tracing.exporting("test"),
    ):
        raise AssertionError
