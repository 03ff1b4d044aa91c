"""A private server: `hyperserve serve` on a free port over a temporary folder, gone after the block."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.cli.errors import CommandError
from hyperserve import Client

FOLDER = "HYPERSERVE_LEARNERS_DIR"
INHERITED = (FOLDER, "HYPERSERVE_DEVICE")
"""Settings of the caller that a private server uses; it has a database and blobs of its own."""
STOP_SECONDS = 10
LOG_TAIL = 2000
"""Characters of the log that the error of a failed start shows."""


class PrivateServerError(CommandError):
    """The server did not start; the message ends with its log."""


@contextmanager
def private_server(ready_seconds: float = 60) -> Iterator[str]:
    """Start a server and yield its URL when it is ready. Raises PrivateServerError."""
    with tempfile.TemporaryDirectory(prefix="hyperserve-") as folder:
        log = Path(folder) / "server.log"
        url, command = _command(Path(folder) / "data")
        # Made first: Ctrl-C while it imports httpcore, which compiles code, would replace the exit status.
        client = Client(url, timeout=5)
        with log.open("wb") as sink:
            server = subprocess.Popen(
                command,
                cwd=folder,  # the caller's .env must not be read
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                process_group=0,  # Ctrl-C reaches the caller alone, which then stops the server in order
            )
        try:
            _wait(server, client, log, ready_seconds)
            yield url
        finally:
            client.close()
            _stop(server)


def exit_on_terminate() -> None:
    """Let SIGTERM and SIGHUP unwind the stack, as Ctrl-C does, so that the server is not left behind."""
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, lambda number, _frame: sys.exit(128 + number))


def _command(data: Path) -> tuple[str, list[str]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    flags = ["--host", "127.0.0.1", "--port", str(port), "--data-dir", str(data), "--no-worker"]
    return f"http://127.0.0.1:{port}", [sys.executable, "-m", "hyperserve", "serve", *flags]


def _environment() -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HYPERSERVE_")}
    # It has no other clients: it need not keep answering for a while after it is told to stop.
    own = {"HYPERSERVE_DRAIN_SECONDS": "0"}
    chosen = {name: os.environ[name] for name in INHERITED if os.environ.get(name)}
    if FOLDER in chosen:
        # The server runs in another folder.
        chosen[FOLDER] = str(Path(chosen[FOLDER]).absolute())
    return inherited | own | chosen


def _wait(server: subprocess.Popen[bytes], client: Client, log: Path, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not client.ready():
        if server.poll() is not None:
            raise PrivateServerError(f"the server ended with status {server.returncode}:\n{_tail(log)}")
        if time.monotonic() > deadline:
            raise PrivateServerError(f"the server is not ready after {seconds:.0f} s:\n{_tail(log)}")
        time.sleep(0.05)


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-LOG_TAIL:]


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
