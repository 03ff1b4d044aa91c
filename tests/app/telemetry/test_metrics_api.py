"""/metrics: the metrics that Prometheus scrapes."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.app.problems import OK
from tests.app.server import Server

PREDICT = "/v1/tasks/{task_id}/predict"


def samples(client: httpx.Client) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = list(text_string_to_metric_families(answer.text))
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for f in families
        for sample in f.samples
    }


def value(client: httpx.Client, name: str, **labels: str) -> float:
    return samples(client).get((f"hyperserve_{name}", frozenset(labels.items())), 0.0)


@pytest.fixture
def growth(client: httpx.Client) -> Callable[..., float]:
    """Return the growth of a metric since the test began."""
    before = samples(client)

    def grown(name: str, **labels: str) -> float:
        key = (f"hyperserve_{name}", frozenset(labels.items()))
        return samples(client).get(key, 0.0) - before.get(key, 0.0)

    return grown


def test_requests(client: httpx.Client, growth: Callable[..., float]) -> None:
    made = client.post("/v1/tasks", json={"support": {"a": OK, "b": OK}}).json()["id"]
    for _ in range(3):
        client.post(f"/v1/tasks/{made}/predict", json={"queries": OK})
    client.post(f"/v1/tasks/{made}/predict", json={"queries": []})
    assert growth("requests_total", route="/v1/tasks", method="POST", status="201") == 1
    assert growth("requests_total", route=PREDICT, method="POST", status="200") == 3
    assert growth("requests_total", route=PREDICT, method="POST", status="422") == 1
    assert growth("request_seconds_count", route=PREDICT, method="POST") == 4
    assert growth("batch_size_count", call="predict") == 3
    assert growth("batch_size_sum", call="adapt") == 1
    assert growth("batch_size_sum", call="embed") == 4 + 3 * 2
    assert growth("batch_seconds_count", call="adapt") == 1
    assert growth("weights_total", tier="l1", outcome="hit") == 3
    assert growth("arena_bytes") > 0


def test_odd_requests_make_no_series(client: httpx.Client, growth: Callable[..., float]) -> None:
    client.get("/one")
    client.get("/two?x=1")
    client.request("PROPFIND", "/three")
    assert growth("requests_total", route="unmatched", method="GET", status="404") == 2
    assert growth("requests_total", route="unmatched", method="OTHER", status="404") == 1


def test_nothing_that_clients_chose(client: httpx.Client) -> None:
    client.post("/v1/tasks", json={"name": "my-name", "support": {"my-label": OK, "b": OK}})
    assert "my-" not in client.get("/metrics").text


def test_templates_are_those_of_the_document(client: httpx.Client) -> None:
    """Count requests of one route of each resource: a prefix must not get lost."""
    document = client.get("/openapi.json").json()
    paths = [path for path, operations in document["paths"].items() if "get" in operations]
    for path in paths:
        if not path.endswith("/events"):
            client.get(path.replace("{", "").replace("}", ""))
    seen = {
        dict(labels).get("route") for name, labels in samples(client) if name == "hyperserve_requests_total"
    }
    assert {path for path in paths if not path.endswith("/events")} <= seen | {"/metrics"}


def test_gauges(client: httpx.Client) -> None:
    assert value(client, "arena_limit_bytes") > 0
    assert value(client, "queue_length") == 0
    assert value(client, "database_up") == 1
    # Of all tenants, whatever other tests have queued.
    assert value(client, "jobs", state="queued") >= 0


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
def test_head(client: httpx.Client, path: str) -> None:
    answer = client.head(path)
    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.slow
def test_one_of_several_processes_answers_for_all(own_server: Server) -> None:
    own_server.environment = {"HYPERSERVE_WORKERS": "2"}
    own_server.start()
    for _ in range(40):
        httpx.get(f"{own_server.url}/v1/limits")
    labels = {"route": "/v1/limits", "method": "GET", "status": "200"}
    for _ in range(6):
        with httpx.Client(base_url=own_server.url) as client:
            assert value(client, "requests_total", **labels) == 40
