"""Three ways to run the command line: in this process, in a forked one, and in a new one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

from app.cli.root import app
from tests.app.forked import Forked


def run(*words: str) -> tuple[int, str]:
    """Return the status and the output of a command run in this process."""
    result = CliRunner().invoke(app, list(words), env={"COLUMNS": "200"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def forked(folder: Path, command: str, **environment: str) -> tuple[int, str]:
    """Return the status and standard error of a command run in a forked process, in a folder."""
    process = Forked(
        command.split(), {**os.environ, **environment}, folder / "out", folder / "err", folder=folder
    )
    return process.wait(50), (folder / "err").read_text()


def hyperserve(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a new process."""
    return subprocess.run(
        [sys.executable, "-m", "hyperserve", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
