"""docs/write-a-method.md as a reader follows it: its package, its tests, its training."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.documents import REPOSITORY, blocks

DOCUMENT = REPOSITORY / "docs" / "write-a-method.md"
BLOCKS = blocks(DOCUMENT)
COMMANDS = [block.text for block in BLOCKS if block.language == "sh"]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the tutorial's files, installed as far as Python's import system looks."""
    folder = tmp_path_factory.mktemp("tutorial")
    for block in BLOCKS:
        if named := re.match(r"# (\S+\.(?:py|toml))\n", block.text):
            (folder / named[1]).write_text(block.text + "\n", encoding="utf-8")
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    metadata = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n", encoding="utf-8"
    )
    lines = [
        line
        for group, points in project["entry-points"].items()
        for line in (f"[{group}]", *(f"{name} = {value}" for name, value in points.items()))
    ]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "examples").symlink_to(REPOSITORY / "examples")
    return folder


def run(folder: Path, *command: str) -> str:
    """Return the output of a command with the tutorial's package on the path; it must succeed."""
    paths = os.pathsep.join((str(folder), str(REPOSITORY)))
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(240)
def test_the_contract_takes_the_method(package: Path) -> None:
    (command,) = [command for command in COMMANDS if "pytest" in command]
    python, *rest = shlex.split(command)
    assert python == "python"
    out = run(package, sys.executable, *rest, "test_cosine_centroids_on_vectors.py", "-p", "no:cacheprovider")
    assert re.search(r"\d\d passed", out)
    assert "failed" not in out


@pytest.mark.timeout(240)
def test_the_training_makes_a_learner_that_the_registry_loads(package: Path) -> None:
    (command,) = [command for command in COMMANDS if "train" in command]
    program, *rest = shlex.split(command)
    assert program == "hyperserve"
    run(package, sys.executable, "-m", "hyperserve", *rest)
    described = json.loads((package / "runs" / "mine" / "learner" / "config.json").read_text("utf-8"))
    assert described["method"] == "cosine-centroids"
    assert described["metrics"]["validation"]["score"] > 0.6
    load = "from models.artifact import load; print(load('runs/mine/learner').learner.traits.kind)"
    assert run(package, sys.executable, "-c", load).strip() == "classification"


def test_the_method_is_described_as_the_bundled_ones_are(package: Path) -> None:
    listed = json.loads(run(package, sys.executable, "-m", "hyperserve", "methods", "--json"))
    (described,) = [method for method in listed if method["name"] == "cosine-centroids"]
    assert described["paper"] == "1804.09458"
    assert described["representation"] == "embedding"
