"""Tables in narrow consoles, and in consoles whose encoding lacks characters."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from app.cli import streams
from app.cli.console import print_table, simple_table
from hyperserve.stream_types import StreamTask
from tests.app.cli.commands import run
from tests.app.server import Server

ENCODINGS = ["ascii", "cp1252", "latin-1", "cp437", "shift_jis", "utf-8"]
COMMANDS = [
    "streams list",
    "streams tasks blobs",
    "streams versions blobs",
    "streams predict blobs --vector 1,1,1,1,1,1,1,1",
    "streams predict digits examples/digits/seven.png",
    "streams --help",
    "methods",
    "train --help",
    "evaluate --help",
]
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def stream_task(name: str, **fields: Any) -> StreamTask:
    usual: dict[str, Any] = {
        "name": name,
        "labels": ["0", "1"],
        "state": "ready",
        "examples": 123_456,
        "held_out": 2_000,
        "accuracy_registered": 1.0,
        "accuracy_now": 0.987,
        "inferred_now": 1.0,
        "drift": 0.1234,
        "alarm": False,
        "job": None,
        "dataset": None,
        "created_at": NOW,
        "registered_at": NOW,
        "forgotten_at": None,
    }
    return StreamTask(**usual | fields)


TASKS = [
    stream_task("0-1", alarm=True),
    stream_task("x" * 63, labels=["y" * 200, "z"]),
    stream_task("animals", labels=["a label of words", "Äpfel", "日本", "d", "e", "f"], state="registering"),
    stream_task("birds", state="rolled_back", drift=None, accuracy_now=None),
    stream_task(
        "none", state="failed", labels=[], error={"code": "unknown_class", "detail": "No such class."}
    ),
]


def test_the_table_of_stream_tasks_fits_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    streams._show_tasks(TASKS)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    text = "".join(lines)
    assert "…" not in text
    # Nothing is cut off.
    assert text.count("x") >= 63
    assert text.count("y") >= 200
    for whole in (
        "examples",
        "inferred",
        "drift",
        "registering",
        "rolled back",
        "123456",
        "100.0 %",
        "0.1234",
    ):
        assert any(whole in line for line in lines), whole
    assert "alarm" in text
    assert "none: failed: No such class." in lines


def test_cells_of_text_are_folded_and_numbers_are_not(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    table = simple_table("name", "#number", "text")
    table.add_row("n" * 100, "1234567890", "[no markup] " * 20)
    print_table(table)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert sum(line.count("n") for line in lines[2:]) >= 100
    assert any("1234567890" in line for line in lines)


def in_console(encoding: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "hyperserve", *arguments],
        env={**os.environ, "PYTHONIOENCODING": encoding, "COLUMNS": "80", **environment},
        capture_output=True,
        timeout=50,
        check=False,
    )


# Each console is a fork of one process, whose imports are waited for once.
CONSOLES = """
import os
import sys
from pathlib import Path
from app.cli import evaluate, info, streams, train
from app.cli.encoding import replace_unknown_characters
from app.cli.root import app
from tests.app.cli.test_console import COMMANDS, TASKS

info.described()
folder, *encodings = sys.argv[1:]
for encoding in encodings:
    if os.fork():
        assert os.wait()[1] == 0, encoding
        continue
    os.dup2(os.open(Path(folder) / encoding, os.O_WRONLY | os.O_CREAT), 1)
    sys.stdout.reconfigure(encoding=encoding)
    replace_unknown_characters()
    streams._show_tasks(TASKS)
    print("“quoted” – dash … × → ─ é 日本 a\\u0308 \\udcff")
    for command in COMMANDS:
        try:
            app(command.split())
        except SystemExit as end:
            assert not end.code, command
    break
"""


@pytest.fixture(scope="module")
def consoles(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of what consoles show, in files named after their encodings."""
    folder = tmp_path_factory.mktemp("consoles")
    found = subprocess.run(
        [sys.executable, "-c", CONSOLES, str(folder), *ENCODINGS],
        env={**os.environ, "COLUMNS": "80", "HYPERSERVE_URL": server.url},
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert found.returncode == 0, found.stderr.decode()
    return folder


@pytest.mark.timeout(130)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_output_in_any_encoding(consoles: Path, encoding: str) -> None:
    # typer takes an ASCII console for one in UTF-8; tables are not printed by it.
    text = (consoles / encoding).read_bytes().decode("utf-8" if encoding == "ascii" else encoding)
    tables = text.partition("quoted")[0]
    assert all(len(line) <= 80 for line in tables.splitlines())
    assert "digits" in text
    if encoding == "ascii":
        assert tables.isascii()
        assert '"quoted" - dash ~ x > - ? ???? a ?' in text


def test_the_console_script_replaces_characters() -> None:
    found = in_console("ascii", "methods")
    assert found.returncode == 0, found.stderr
    assert b"protonet" in found.stdout


def test_json_is_exact_in_any_encoding() -> None:
    ascii_text = in_console("ascii", "openapi").stdout
    assert ascii_text.isascii()
    assert json.loads(ascii_text) == json.loads(run("openapi")[1])
