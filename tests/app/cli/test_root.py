"""The tree of commands, and what every command does alike."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.core import TyperGroup
from typer.main import get_command

import hyperserve as hyperserve_client
from app.cli.evaluate import PROTOCOLS
from app.cli.lazy import LazyCommand
from app.cli.root import COMMANDS as COMMAND_TABLE
from app.cli.root import app
from app.cli.streams import LAZY_COMMANDS
from app.core.settings import Settings
from app.db.migrate import revision
from app.db.tables import REVISION
from tests.app.cli.commands import forked, hyperserve, run

HEAVY = (
    "lightning",
    "torchmetrics",
    "sklearn",
    "timm",
    "sentence_transformers",
    "alembic",
    "scipy",
    "pandas",
    "matplotlib",
    "experiments",
)


def commands(group: TyperGroup | None = None, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Return the words of every command and group."""
    group = get_command(app) if group is None else group  # type: ignore[assignment]
    for name, command in group.commands.items():
        found = command.load() if isinstance(command, LazyCommand) else command
        yield (*path, name)
        if isinstance(found, TyperGroup):
            yield from commands(found, (*path, name))


COMMANDS = [(), *commands()]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help(words: tuple[str, ...]) -> None:
    code, said = run(*words, "--help")
    assert code == 0, said
    assert "Usage:" in said


def test_groups_list_their_commands_with_summaries() -> None:
    for words in COMMANDS:
        *group, name = words or ("",)
        assert name in run(*group, "--help")[1]
    assert "Measure on Lake's 20 runs." in run("evaluate", "--help")[1]


@pytest.mark.parametrize(
    "table", [COMMAND_TABLE, PROTOCOLS, LAZY_COMMANDS], ids=["hyperserve", "evaluate", "streams"]
)
def test_a_summary_begins_the_help_of_its_command(table: dict[str, tuple[str, str]]) -> None:
    for name, (target, summary) in table.items():
        command = LazyCommand(name, target, summary).load()
        assert (command.help or "").startswith(summary), name


def test_help_and_version_import_nothing_heavy() -> None:
    """Commands are imported when they are invoked, and `serve` imports torch with the server alone."""
    code = """
import json, sys
from typer.testing import CliRunner
from app.cli.root import app
for words in ["--help"], ["--version"], ["evaluate", "--help"], ["db", "--help"], ["serve", "--help"]:
    assert CliRunner().invoke(app, words).exit_code == 0, words
import app.cli.serve, app.worker_process
print(json.dumps([name for name in sys.modules if name == "torch" or name.startswith("app.cli.evaluate_")]))
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(found.stdout) == []


def test_the_version_is_that_of_the_package() -> None:
    assert run("--version") == (0, f"hyperserve {version('hyperserve')}\n")
    assert hyperserve_client.__version__ == version("hyperserve")


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
    status, said = forked(tmp_path, "serve --port 0", **folders)
    assert status != 0
    assert "broken/config.json: format None is unknown" in said


@pytest.mark.parametrize("command", ["serve", "worker", "gc", "db upgrade"])
def test_a_setting_at_fault_is_named_and_not_repeated(command: str, tmp_path: Path) -> None:
    status, said = forked(tmp_path, command, HYPERSERVE_DATA_DIR=str(tmp_path), HYPERSERVE_SECRET="hunter2")
    assert status == 2
    assert said.startswith("hyperserve: HYPERSERVE_SECRET: ")
    assert len(said.splitlines()) == 1
    assert "hunter2" not in said


@pytest.mark.parametrize("command", ["serve", "gc", "backup x.tar", "restore x.tar", "db upgrade"])
@pytest.mark.parametrize(
    "url",
    ["sqlite:////proc/none/x.db", "nonsense://u:hunter2@h/x"],
)
def test_a_database_that_cannot_be_used_is_one_line(command: str, url: str, tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    if command.startswith("restore"):
        (tmp_path / "x.tar").touch()
    status, said = forked(tmp_path, command, HYPERSERVE_DATA_DIR=data, HYPERSERVE_DATABASE_URL=url)
    assert status == 1
    assert said.startswith("hyperserve: ")
    assert len(said.splitlines()) == 1
    assert "hunter2" not in said


def test_the_environment_takes_precedence_over_dotenv(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("HYPERSERVE_PORT=1\nHYPERSERVE_HOST=dotenv\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYPERSERVE_PORT", "2")
    settings = Settings()
    assert (settings.port, settings.host) == (2, "dotenv")
