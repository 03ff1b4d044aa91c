"""Schemathesis reads the OpenAPI document of a running server and tries to prove it wrong."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.app.server import Server

CONFIG = """
[checks]
# Whether bytes are an image, and vectors of one length, cannot be said in JSON Schema.
positive_data_acceptance.enabled = false
# 413: the largest documented request with one element too many is also too many bytes.
negative_data_rejection.expected-statuses = [400, 404, 405, 413, 415, 422]

[[operations]]
include-path = "/v1/tasks/{{task_id}}/predict"
parameters = {{ "path.task_id" = "{task}" }}

[[operations]]
include-path = "/v1/streams/{{stream}}/predict"
parameters = {{ "path.stream" = "digits" }}

[[operations]]
# 409: the bundled stream refuses, whatever the body.
include-path = "/v1/streams/{{stream}}/tasks"
checks.negative_data_rejection.expected-statuses = [400, 404, 405, 409, 413, 415, 422]
"""


@pytest.fixture
def run(server: Server, task: str, tmp_path: Path) -> Callable[..., None]:
    """All phases (examples, coverage, fuzzing, stateful) and all checks; predict asks a task that exists."""
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIG.format(task=task))

    def schemathesis(examples: int, seconds: int) -> None:
        command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run"]
        command += [
            f"{server.url}/openapi.json",
            "--max-examples",
            str(examples),
            "--no-color",
            "--seed",
            "1",
        ]
        found = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=seconds, check=False
        )
        assert found.returncode == 0, found.stdout[-20_000:] + found.stderr[-5_000:]
        assert server.process.poll() is None
        assert '"exception"' not in server.log.read_text()

    return schemathesis


@pytest.mark.timeout(150)
def test_no_answer_contradicts_the_document(run: Callable[..., None]) -> None:
    run(examples=3, seconds=140)


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_no_answer_contradicts_the_document_at_length(run: Callable[..., None]) -> None:
    run(examples=500, seconds=1_700)
