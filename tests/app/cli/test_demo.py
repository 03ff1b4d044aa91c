"""`hyperserve demo`, as a user runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from hyperserve import Client
from tests.app.server import Server

COMMAND = [sys.executable, "-m", "hyperserve", "demo"]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    given = {**os.environ, "COLUMNS": "80", **environment}
    return subprocess.run(
        [*COMMAND, *arguments], env=given, capture_output=True, text=True, timeout=50, check=False
    )


def test_it_starts_a_server_of_its_own_and_leaves_nothing(zoo: Path, tmp_path: Path) -> None:
    done = run(
        "--json", HYPERSERVE_LEARNERS_DIR=str(zoo), HYPERSERVE_DATA_DIR="/nowhere", TMPDIR=str(tmp_path)
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["task"]["shots"] == dict.fromkeys(["balance", "fish", "ladder", "snail", "trident"], 3)
    assert [answer["query"] for answer in document["answers"]][-2:] == ["umbrella-1", "umbrella-2"]
    for answer in document["answers"]:
        assert answer["label"] in answer["prediction_set"]
        assert answer["ms"] > 0
    assert not list(tmp_path.iterdir())


def test_its_server_is_reached_directly(zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proxies = {"HTTP_PROXY": "http://127.0.0.1:9", "ALL_PROXY": "socks5://127.0.0.1:9"}
    proxies |= {name.lower(): url for name, url in proxies.items()}
    # A relative folder is that of the caller, and the one for temporary files may have any name.
    monkeypatch.chdir(zoo.parent)
    scratch = tmp_path / "a?b #c%20é"
    scratch.mkdir()
    done = run("--json", HYPERSERVE_LEARNERS_DIR=zoo.name, TMPDIR=str(scratch), **proxies)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["task"]["learner"] == "glyphs"


def test_it_asks_a_running_server_and_removes_its_task(server: Server) -> None:
    done = run("--url", server.url)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in done.stdout
    assert sum(line.split()[0] in ("fish-1", "umbrella-2") for line in lines if line.strip()) == 2
    with Client(server.url) as client:
        assert "demo" not in [task.name for task in client.tasks.list()]


@pytest.mark.parametrize(
    ("url", "message", "status"),
    [
        ("http://127.0.0.1:9", "refused", 1),
        ("127.0.0.1", "must look like http://host:port", 2),
    ],
)
def test_an_unreachable_server_is_reported_in_a_line(url: str, message: str, status: int) -> None:
    done = run("--url", url)
    assert (done.returncode, done.stdout) == (status, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_server_that_does_not_start_shows_its_log(tmp_path: Path) -> None:
    folder = tmp_path / "zoo[bold]" / "glyphs"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    done = run(HYPERSERVE_LEARNERS_DIR=str(folder.parent))
    assert done.returncode == 1
    assert "the server ended with status" in done.stderr
    assert "ArtifactError" in done.stderr
    assert "zoo[bold]" in done.stderr


@pytest.mark.parametrize(
    ("ending", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)]
)
def test_terminated_it_takes_its_server_along(
    zoo: Path, tmp_path: Path, ending: signal.Signals, status: int
) -> None:
    given = {**os.environ, "HYPERSERVE_LEARNERS_DIR": str(zoo), "TMPDIR": str(tmp_path)}
    # A shell's background job ignores SIGINT, and so would all that it starts.
    listening = signal.signal(signal.SIGINT, signal.default_int_handler)
    demo = subprocess.Popen(COMMAND, env=given, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    signal.signal(signal.SIGINT, listening)
    deadline = time.monotonic() + 20
    while not list(tmp_path.glob("*/server.log")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    demo.send_signal(ending)
    assert demo.wait(20) == status
    assert not list(tmp_path.iterdir())


def test_the_drawings_are_what_their_script_draws() -> None:
    from app.cli.demo import GLYPHS
    from examples.draw_glyphs import drawings

    drawn = drawings()
    shipped = {str(path.relative_to(GLYPHS)) for path in GLYPHS.rglob("*.png")}
    assert set(drawn) == shipped
    for path, image in drawn.items():
        with Image.open(GLYPHS / path) as kept:
            assert (kept.size, kept.mode) == ((105, 105), "L")
            # Grey edges may differ between versions of Pillow.
            pairs = zip(kept.tobytes(), image.tobytes(), strict=True)
            assert max(abs(one - other) for one, other in pairs) < 64
