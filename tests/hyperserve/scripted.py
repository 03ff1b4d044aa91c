"""A real HTTP server with scripted replies that records the requests it receives."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

TASK = {
    "id": "task_1",
    "name": None,
    "version": 1,
    "learner": "glyphs",
    "learner_digest": "0123456789abcdef",
    "classes": ["cat", "dog"],
    "shots": {"cat": 2, "dog": 1},
    "created_at": "2026-11-21T10:00:00Z",
    "warnings": [],
}
PREDICTIONS = {
    "task": "task_1",
    "version": 1,
    "learner": "glyphs",
    "predictions": [
        {
            "label": "cat",
            "confidence": 0.9,
            "probabilities": {"cat": 0.9, "dog": 0.1},
            "unknown": 0.2,
            "entropy": 0.33,
            "epistemic": None,
            "prediction_set": ["cat"],
        }
    ],
    "timing": {"total": 1.5},
}

JOB = {
    "id": "job_1",
    "kind": "train",
    "subject": "learners/mine",
    "state": "running",
    "attempt": 1,
    "max_attempts": 3,
    "cancel_requested": False,
    "progress": None,
    "result": None,
    "error": None,
    "created_at": "2026-11-21T10:00:00Z",
    "started_at": "2026-11-21T10:00:01Z",
    "finished_at": None,
}


def problem(status: int, code: str = "some_code", **fields: Any) -> dict[str, Any]:
    return {
        "type": f"/problems/{code}",
        "title": "A title",
        "status": status,
        "detail": "What happened.",
        "code": code,
        "request_id": "req_1",
        **fields,
    }


@dataclass(frozen=True)
class Reply:
    """One scripted reply; `body` None closes the connection without a reply, bytes are sent unchanged.

    A callable body returns the reply to a request.
    """

    status: int = 200
    body: Any = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0


@dataclass(frozen=True)
class ReceivedRequest:
    method: str
    path: str
    headers: dict[str, str]
    body: Any
    at: float


@dataclass
class Script:
    """Replies in order, the last one repeated; `requests` records what was received."""

    url: str
    replies: list[Reply]
    requests: list[ReceivedRequest] = field(default_factory=list)


@contextmanager
def scripted(*replies: Reply, reads: bool = True) -> Iterator[Script]:
    """Run a server; with `reads` False it discards the bodies of requests."""
    script = Script("", list(replies))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            raw = self.receive(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            reply = script.replies[min(len(script.requests), len(script.replies) - 1)]
            if headers.get("content-encoding") == "gzip":
                raw = gzip.decompress(raw)
            is_json = headers.get("content-type") == "application/json"
            body = json.loads(raw) if is_json else raw or None
            received = ReceivedRequest(self.command, self.path, headers, body, time.monotonic())
            script.requests.append(received)
            if callable(reply.body):
                reply = reply.body(received)
            time.sleep(reply.delay)
            if reply.body is None:
                self.close_connection = True
                return
            said = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            self.send_response(reply.status)
            for name, value in ({"Content-Length": str(len(said))} | reply.headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(said)

        def receive(self, size: int) -> bytes:
            if reads:
                return self.rfile.read(size)
            while size:
                size -= len(self.rfile.read(min(size, 1 << 16)))
            return b""

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

        def log_message(self, format: str, *args: Any) -> None:
            """Log nothing: the tests read `requests`."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    script.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield script
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
