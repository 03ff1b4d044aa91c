"""The content of log lines, and what they never contain."""

from __future__ import annotations

import json
import logging
from logging.config import dictConfig
from typing import Any

import httpx
import pytest

from app.telemetry import logs
from tests.app.problems import OK
from tests.app.server import Server


def line(**fields: Any) -> dict[str, Any]:
    record = logging.makeLogRecord({"name": "hyperserve", "levelname": "INFO", "created": 0.5} | fields)
    found: dict[str, Any] = json.loads(logs.LineFormatter("json").format(record))
    return found


def failure() -> Any:
    secret = "label of a client"  # noqa: F841
    try:
        raise ValueError("broken")
    except ValueError as error:
        return type(error), error, error.__traceback__


class TestLine:
    def test_fields(self) -> None:
        assert line(msg="%s jobs", args=(2,), job="job_1") == {
            "timestamp": "1970-01-01T00:00:00.500+00:00",
            "level": "info",
            "logger": "hyperserve",
            "event": "2 jobs",
            "job": "job_1",
        }

    def test_names_its_request(self) -> None:
        token = logs.request_id.set("req_1")
        try:
            assert line(msg="x")["request_id"] == "req_1"
        finally:
            logs.request_id.reset(token)

    def test_exceptions_are_structured_and_without_values(self) -> None:
        found = line(msg="failed", exc_info=failure())
        (only,) = found["exception"]
        assert (only["exc_type"], only["exc_value"]) == ("ValueError", "broken")
        assert only["frames"][0]["name"] == "failure"
        assert "label of a client" not in json.dumps(found)

    def test_line_breaks_stay_inside(self) -> None:
        record = logging.makeLogRecord({"msg": "a\nb"})
        assert "\n" not in logs.LineFormatter("json").format(record)

    def test_for_people(self) -> None:
        record = logging.makeLogRecord({"msg": "hello", "job": "job_1", "exc_info": failure()})
        found = logs.LineFormatter("console").format(record)
        assert "hello" in found
        assert "job_1" in found
        assert "broken" in found
        assert "label of a client" not in found


def test_levels(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        dictConfig(logs.config("json", "warning"))
        logging.getLogger("uvicorn.error").info("not worth a line")
        logging.getLogger("uvicorn.error").warning("worth one")
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    (only,) = capsys.readouterr().err.splitlines()
    assert json.loads(only)["event"] == "worth one"


class TestServer:
    def lines(self, server: Server, request: httpx.Response) -> list[dict[str, Any]]:
        """Return the lines of the log that belong to a request; every line of the log is JSON."""
        # The next answer comes after the line of the one before has been written.
        server.client.get("/livez")
        found = [json.loads(line) for line in server.log.read_text().splitlines()]
        return [line for line in found if line.get("request_id") == request.headers["x-request-id"]]

    def test_one_line_for_each_request(self, server: Server) -> None:
        body = {"name": "my secret task", "support": {"my secret label": OK, "b": OK}}
        made = server.client.post("/v1/tasks", json=body)
        answer = server.client.post(f"/v1/tasks/{made.json()['id']}/predict?top=1", json={"queries": OK})
        (line,) = self.lines(server, answer)
        assert 0 < line.pop("ms") < 10_000
        del line["timestamp"]
        assert line == {
            "level": "info",
            "logger": "hyperserve.access",
            "event": "request",
            "request_id": answer.headers["x-request-id"],
            "method": "POST",
            "route": "/v1/tasks/{task_id}/predict",
            "status": 200,
            "tenant": "default",
        }
        assert "secret" not in server.log.read_text()

    def test_addresses_that_are_not_there(self, server: Server) -> None:
        missed = server.client.get("/v1/secret/path?secret")
        (line,) = self.lines(server, missed)
        assert (line["route"], line["status"]) == ("unmatched", 404)
        assert "secret" not in json.dumps(line)

    def test_health_is_quiet(self, server: Server) -> None:
        assert not self.lines(server, server.client.get("/livez"))

    def test_uvicorn_speaks_json(self, server: Server) -> None:
        loggers = {json.loads(line)["logger"] for line in server.log.read_text().splitlines()}
        assert "uvicorn.error" in loggers
