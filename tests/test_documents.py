"""The documents tell the truth: their commands run from top to bottom, links lead to files, lists are complete."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

import pytest

from examples import draw_clouds
from models.registry import METHODS, STREAMS
from tests.app.server import Server
from tests.documents import REPOSITORY, Block, ReaderSession, blocks, is_setup

DOCUMENTS = [REPOSITORY / "README.md", REPOSITORY / "docs/quickstart.md"]
LINKED = [
    REPOSITORY / "README.md",
    REPOSITORY / "CONTRIBUTING.md",
    *sorted((REPOSITORY / "docs").rglob("*.md")),
]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def name_of(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def has_target(target: str, last_command: str) -> None:
    # Under `make test` it would tell of the folders that it enters and leaves.
    command = ["make", "--dry-run", "--no-print-directory", target]
    dry = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert last_command in dry.stdout.splitlines()[-1]


def has_extra(extra: str) -> None:
    assert extra in PROJECT["optional-dependencies"]


def python_is_supported() -> None:
    assert PROJECT["requires-python"] == ">=3.11"


@cache
def serve_is_a_command() -> None:
    subprocess.run(
        [sys.executable, "-m", "hyperserve", "serve", "--help"],
        cwd=REPOSITORY,
        capture_output=True,
        check=True,
    )


@cache
def install_torch_is_a_script() -> None:
    # torch is installed here already: nothing is downloaded.
    subprocess.run([sys.executable, "tools/install_torch.py"], cwd=REPOSITORY, check=True)


# Commands that would set up the environment these tests run in: checked as far as that goes, not run.
SETUP: dict[str, Callable[[], None]] = {
    "make serve": partial(has_target, "serve", "hyperserve serve"),
    "make test": partial(has_target, "test", "pytest"),
    "python3 -m venv .venv": python_is_supported,
    ".venv/bin/python tools/install_torch.py": install_torch_is_a_script,
    ".venv/bin/pip install -e '.[server]'": partial(has_extra, "server"),
    ".venv/bin/hyperserve serve": serve_is_a_command,
}


@pytest.fixture(scope="module")
def bundled_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server as `make serve` starts it: the bundled learners and streams, and a worker next to it."""
    environment = {"HYPERSERVE_WORKER": "true", "HYPERSERVE_STREAMS_DIR": str(REPOSITORY / "models/streams")}
    running = Server(tmp_path_factory.mktemp("documents") / "data", REPOSITORY / "models/zoo", environment)
    running.start()
    yield running
    running.stop()


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
@pytest.mark.timeout(300)
def test_the_commands_run_from_top_to_bottom(path: Path, bundled_server: Server, tmp_path: Path) -> None:
    session = ReaderSession(bundled_server.url, tmp_path)
    for block in blocks(path):
        if not is_setup(block, SETUP):
            session.run(block)


@pytest.mark.parametrize(
    ("language", "text", "reason"),
    [
        ("sh", "curl http://127.0.0.1:1/", "exit status 7"),
        ("python", "raise SystemExit(3)", "exit status 3"),
        ("sh", "echo TASK", "no earlier answer had an id for TASK"),
        ("sh", 'echo {}  # "task": "6-7"', 'the output does not contain "task": "6-7"'),
    ],
)
def test_a_failure_names_file_and_line(language: str, text: str, reason: str, tmp_path: Path) -> None:
    session = ReaderSession("http://127.0.0.1:1", tmp_path)
    with pytest.raises(AssertionError, match=f"^README.md:12: {re.escape(reason)}"):
        session.run(Block(REPOSITORY / "README.md", 12, language, text))


@pytest.mark.parametrize(
    "block", [block for path in DOCUMENTS for block in blocks(path)], ids=lambda block: block.where
)
def test_a_block_says_what_it_is_and_its_set_up_commands_are_true(block: Block) -> None:
    assert block.language in ("sh", "python"), f"{block.where}: a block is marked sh or python"
    if is_setup(block, SETUP):
        for command in block.commands:
            SETUP[command]()


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_no_code_hides_outside_of_fences(path: Path) -> None:
    text = re.sub(
        r"^```.*?^```",
        lambda found: "\n" * found[0].count("\n"),
        path.read_text(),
        flags=re.DOTALL | re.MULTILINE,
    )
    indented = [
        f"{name_of(path)}:{number}" for number, line in enumerate(text.splitlines(), 1) if line[:4] == "    "
    ]
    assert indented == []


@pytest.mark.parametrize("path", LINKED, ids=name_of)
def test_links_lead_to_files(path: Path) -> None:
    broken = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", line)
        broken += [
            f"{name_of(path)}:{number}: {target}" for target in targets if not (path.parent / target).exists()
        ]
    assert broken == []


def learners_table() -> str:
    _, _, rest = DOCUMENTS[0].read_text(encoding="utf-8").partition("## Bundled learners")
    return rest.partition("\n## ")[0]


def test_the_readme_lists_every_bundled_learner_and_stream() -> None:
    listed: set[str] = set()
    for line in learners_table().splitlines():
        if not line.startswith("| ") or line.startswith("| kind"):
            continue
        first, *others = re.findall(r"`([\w*-]+)`", line.split("|")[2])
        listed |= {first.replace("*", other) for other in others} if first.endswith("*") else {first, *others}
    bundled = {
        path.name for folder in ("zoo", "streams") for path in (REPOSITORY / "models" / folder).iterdir()
    }
    assert listed == {name for name in bundled if not name.startswith((".", "_"))}


def test_the_readme_lists_every_method() -> None:
    _, _, paragraph = learners_table().partition("**Methods**")
    listed = set(re.findall(r"`([a-z-]+)`", paragraph.partition("`hyperserve methods`")[0]))
    assert listed == {*METHODS.paths, *STREAMS.paths}


def test_the_clouds_are_what_their_script_draws() -> None:
    shipped = (REPOSITORY / "examples/clouds.csv").read_text(encoding="utf-8").splitlines()
    assert shipped == [",".join(map(str, row)) for row in draw_clouds.rows()]
