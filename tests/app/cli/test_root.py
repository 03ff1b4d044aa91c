"""The command line of the server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli.root import app
from app.core.settings import Settings
from app.db.migrate import revision
from app.db.tables import REVISION
from tests.app.forked import Forked

HEAVY = (
    "lightning",
    "torchmetrics",
    "sklearn",
    "timm",
    "sentence_transformers",
    "alembic",
    "scipy",
    "pandas",
)


def hyperserve(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hyperserve", *arguments]
    return subprocess.run(
        command,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def refused(folder: Path, command: str, **environment: str) -> tuple[int, str]:
    """Status and standard error of a command that is forked, in a folder."""
    process = Forked(
        command.split(), {**os.environ, **environment}, folder / "out", folder / "err", folder=folder
    )
    return process.wait(50), (folder / "err").read_text()


@pytest.mark.parametrize(
    "words",
    [
        "",
        "serve",
        "worker",
        "db",
        "db upgrade",
        "openapi",
        "demo",
        "train",
        "evaluate",
        "gc",
        "backup",
        "restore",
    ],
)
def test_help(words: str) -> None:
    found = CliRunner().invoke(app, [*words.split(), "--help"])
    assert found.exit_code == 0, found.output
    assert "Usage:" in found.output


def test_db_upgrade(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    found = hyperserve(
        "db", "upgrade", HYPERSERVE_DATABASE_URL=url, HYPERSERVE_DATA_DIR=str(tmp_path / "data")
    )
    assert found.returncode == 0, found.stderr
    assert revision(url) == REVISION


def test_serve_imports_nothing_heavy() -> None:
    code = "import sys, json, app.main; print(json.dumps(list(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = {name.partition(".")[0] for name in json.loads(found.stdout)}
    assert modules.isdisjoint(HEAVY)


def test_broken_learner_stops_the_start(tmp_path: Path) -> None:
    """It says which and why."""
    folder = tmp_path / "zoo" / "broken"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    folders = {"HYPERSERVE_LEARNERS_DIR": str(folder.parent), "HYPERSERVE_DATA_DIR": str(tmp_path / "data")}
    status, told = refused(tmp_path, "serve --port 0", **folders)
    assert status != 0
    assert "broken/config.json: format None is unknown" in told


@pytest.mark.parametrize("command", ["serve", "worker", "gc", "db upgrade"])
def test_a_setting_at_fault_is_named_and_not_repeated(command: str, tmp_path: Path) -> None:
    status, told = refused(tmp_path, command, HYPERSERVE_DATA_DIR=str(tmp_path), HYPERSERVE_SECRET="hunter2")
    assert status == 2
    assert told.startswith("hyperserve: HYPERSERVE_SECRET: ")
    assert len(told.splitlines()) == 1
    assert "hunter2" not in told


@pytest.mark.parametrize("command", ["serve", "gc", "backup x.tar", "restore x.tar", "db upgrade"])
@pytest.mark.parametrize(
    "url",
    ["sqlite:////proc/none/x.db", "nonsense://u:hunter2@h/x"],
)
def test_a_database_that_cannot_be_used_is_one_line(command: str, url: str, tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    status, told = refused(tmp_path, command, HYPERSERVE_DATA_DIR=data, HYPERSERVE_DATABASE_URL=url)
    assert status == 1
    assert told.startswith("hyperserve: ")
    assert len(told.splitlines()) == 1
    assert "hunter2" not in told


def test_environment_stands_over_dotenv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("HYPERSERVE_PORT=1\nHYPERSERVE_HOST=dotenv\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYPERSERVE_PORT", "2")
    settings = Settings()
    assert (settings.port, settings.host) == (2, "dotenv")
