"""The wheel in a clean environment with Python, the wheel and its required packages only."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.app.server import Server

REPOSITORY = Path(__file__).parents[2]
USE = """
import sys
from hyperserve import Client
with Client(sys.argv[1]) as client:
    task = client.tasks.create({"left": [[-1.0, 0.0]], "right": [[1.0, 0.0]]})
    print(task.predict([[0.9, 0.1]]).predictions[0].label)
    task.delete()
heavy = {"torch", "numpy", "PIL", "fastapi", "sqlalchemy", "typer", "rich", "app", "models"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    subprocess.run(build, cwd=REPOSITORY, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the interpreter of a clean environment; required packages are linked from this one, without a network."""
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder, symlinks=True, with_pip=False)
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python")]
    subprocess.run([*pip, "install", "-q", "--no-index", "--no-deps", str(wheel)], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (installed,) = importlib.metadata.distributions(name="hyperserve", path=[str(site)])
    for name in required(installed, set()):
        link(name, site)
    return folder / "bin" / "python"


def required(distribution: importlib.metadata.Distribution, seen: set[str]) -> set[str]:
    """Return the transitive requirements of a distribution, without extras."""
    for requirement in map(Requirement, distribution.requires or []):
        name = canonicalize_name(requirement.name)
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if applies and name not in seen:
            seen.add(name)
            required(importlib.metadata.distribution(name), seen)
    return seen


def link(name: str, site: Path) -> None:
    """Put the top-level files and packages of an installed distribution into `site`."""
    distribution = importlib.metadata.distribution(name)
    for top in {
        file.parts[0] for file in distribution.files or [] if file.parts[0] not in ("..", "__pycache__")
    }:
        (site / top).symlink_to(Path(str(distribution.locate_file(top))).resolve())


def run(python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "HYPERSERVE"))
    }
    command = [str(python), "-I", *arguments]
    return subprocess.run(command, env=clean, cwd=python.parent, capture_output=True, text=True, check=False)


def test_it_holds_the_client_and_its_types_only(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"hyperserve"}
    assert "hyperserve/py.typed" in names


def test_the_environment_has_no_server(python: Path) -> None:
    absent = run(python, "-c", "import torch")
    assert "No module named 'torch'" in absent.stderr


def test_the_client_works_against_a_server(python: Path, server: Server) -> None:
    done = run(python, "-c", USE, server.url)
    assert (done.stdout.strip(), done.returncode) == ("right", 0), done.stderr


def test_the_command_says_how_to_get_the_server(python: Path) -> None:
    for command in (["-m", "hyperserve", "serve"], [str(python.with_name("hyperserve")), "serve"]):
        done = run(python, *command)
        assert (done.returncode, done.stdout) == (2, "")
        assert "pip install -e '.[server]'" in done.stderr
        assert "Traceback" not in done.stderr
