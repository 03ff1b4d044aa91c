"""Errors of commands: one printer, one table of exit codes, and paths as they are."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from pydantic import BaseModel, ValidationError

from app.cli import errors
from app.cli.errors import CommandError, ExitCode, MisuseError, exit_code, printed_errors
from app.cli.private_server import PrivateServerError
from app.core.secret import SecretError
from app.core.settings import REPOSITORY
from app.db.errors import DatabaseAwayError, DatabaseRevisionError, DatabaseStatementError
from app.maintenance.backup_format import BackupError
from hyperserve.errors import ConnectionFailedError, InvalidArgumentError
from models.artifact import ArtifactError
from models.data.dataset import DatasetError
from models.protocol import LearnerError
from models.registry import RegistryError
from models.training.run_folder import RecipeError
from tests.app.cli.commands import forked, run


class Model(BaseModel):
    number: int


def invalid() -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        Model.model_validate({"number": "hunter2"})
    return caught.value


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MisuseError("x"), ExitCode.MISUSE),
        (invalid(), ExitCode.MISUSE),
        (SecretError("x"), ExitCode.MISUSE),
        (InvalidArgumentError("x"), ExitCode.MISUSE),
        (ArtifactError("x"), ExitCode.MISUSE),
        (DatasetError("x"), ExitCode.MISUSE),
        (LearnerError("x"), ExitCode.MISUSE),
        (RegistryError("x"), ExitCode.MISUSE),
        (RecipeError("x"), ExitCode.MISUSE),
        (CommandError("x"), ExitCode.FAILED),
        (PrivateServerError("x"), ExitCode.FAILED),
        (ConnectionFailedError("x"), ExitCode.FAILED),
        (DatabaseAwayError("x"), ExitCode.FAILED),
        (DatabaseRevisionError("x"), ExitCode.FAILED),
        (DatabaseStatementError("x"), ExitCode.FAILED),
        (BackupError("x"), ExitCode.FAILED),
        (FileNotFoundError("x"), ExitCode.MISUSE),
        (PermissionError("x"), ExitCode.FAILED),
        (KeyError("x"), None),
        (BrokenPipeError("x"), None),
        (httpx.InvalidURL("x"), None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_each_error_has_one_exit_code(error: Exception, code: ExitCode | None) -> None:
    assert exit_code(error) == code


def test_the_documentation_has_the_same_table() -> None:
    assert errors.__doc__ is not None
    table = [line for line in errors.__doc__.splitlines() if line.startswith("|")]
    assert len(table) == 2 + len(ExitCode)
    assert "\n".join(table) in (REPOSITORY / "docs" / "operations.md").read_text()


def test_faults_of_the_code_keep_their_traceback() -> None:
    with pytest.raises(KeyError), printed_errors():
        raise KeyError("x")


SERVICE_REFUSALS = {
    "serve": 2,
    "db upgrade": 2,
    "gc": 1,
    "backup x.tar": 1,
    "restore broken[bold].json": 1,
    "restore no[bold].tar": 2,
}
REFUSALS = {
    "train --name x --dataset no[bold]": 2,
    "train --name x --init no[bold]": 2,
    "train --name x --recipe broken[bold].json": 2,
    "train --name x --dataset completion --data no[bold].npz": 2,
    "evaluate omniglot --learner no[bold]": 2,
    "evaluate omniglot-emnist --all --data no[bold].npz": 2,
    "evaluate omniglot-lake --learner no[bold]": 2,
    "evaluate cifar-fs --learner vectors --data no[bold]": 2,
    "evaluate vectors --learner vectors --data no[bold].npz": 2,
    "evaluate mann --learner no[bold]": 2,
    "evaluate sinusoid --learner no[bold]": 2,
    "evaluate regression --learner no[bold]": 2,
    "evaluate completion --learner no[bold]": 2,
    "evaluate compare --learner no[bold]": 2,
    "evaluate compare-emnist --learner glyphs --learner glyphs --data no[bold].npz": 2,
    "evaluate bayes-by-backprop --data no[bold].npz": 2,
    "evaluate continual --data no[bold].npz": 2,
    "streams train --data no[bold].npz": 2,
}
"""Commands that cannot find something at a path, and their status."""


@pytest.mark.parametrize("words", [(), ("--learner", "glyphs")])
@pytest.mark.parametrize("command", ["compare", "compare-emnist"])
def test_learners_are_compared_in_pairs(command: str, words: tuple[str, ...]) -> None:
    data = ("--data", "none.npz") if command == "compare-emnist" else ()
    code, said = run("evaluate", command, *words, *data)
    assert (code, said) == (
        2,
        "hyperserve: compare takes learners in pairs: --learner OURS --learner BASELINE\n",
    )


@pytest.mark.parametrize(("command", "status"), REFUSALS.items(), ids=REFUSALS)
def test_a_refusal_shows_its_path_with_brackets(
    command: str, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken[bold].json").write_text("{")
    monkeypatch.chdir(tmp_path)
    code, said = run(*command.split())
    assert said.startswith("hyperserve: "), said
    assert "[bold]" in said
    assert code == status, said


@pytest.mark.parametrize(("command", "status"), SERVICE_REFUSALS.items(), ids=SERVICE_REFUSALS)
def test_a_refusal_of_the_service_shows_its_path_with_brackets(
    command: str, status: int, tmp_path: Path
) -> None:
    """In a process of its own: the service sets up logging."""
    (tmp_path / "broken[bold].json").write_text("{")
    (tmp_path / "file").touch()
    place = "file/no[bold]" if status == 2 else "no[bold]"
    code, said = forked(tmp_path, command, HYPERSERVE_DATA_DIR=place)
    last = said.splitlines()[-1]
    assert last.startswith("hyperserve: "), said
    assert "[bold]" in last
    assert code == status, said


def test_a_training_shows_the_path_of_its_learner_with_brackets(tmp_path: Path) -> None:
    runs = tmp_path / "runs[bold]"
    short = ("--steps", "2", "--tasks", "2", "--hparam", "width=8", "--hparam", "features=4")
    code, said = run("train", "--name", "x", "--dataset", "sinusoids", "--runs", str(runs), *short)
    assert code == 0, said
    assert str(runs / "x" / "learner") in said
