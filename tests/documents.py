"""Code blocks of Markdown documents, and a session that runs them in order as a reader would."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
DEFAULT_URL = "http://127.0.0.1:8000"
SECONDS = 100
# The commands of the documents, made strict and independent of where the environment lies.
PREAMBLE = """
set -euo pipefail
curl() { command curl --silent --show-error --fail-with-body "$@"; echo; }
hyperserve() { "$PYTHON" -m hyperserve "$@"; }
"""


@dataclass(frozen=True)
class Block:
    """A fenced block; `line` is that of its first line of code."""

    path: Path
    line: int
    language: str
    text: str

    @property
    def where(self) -> str:
        """Return the file and line, as editors open them."""
        return f"{self.path.relative_to(REPOSITORY)}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """Return the commands of a shell block, without comments, one by one."""
        joined = self.text.replace("\\\n", " ")
        lines = [re.sub(r"\s+# .*$|^#.*$", "", line).strip() for line in joined.splitlines()]
        return [part.strip() for line in lines for part in line.split("&&") if part.strip()]

    @property
    def promises(self) -> list[str]:
        """Return what trailing comments such as `# "task": "6-7"` say the output contains, up to an ellipsis."""
        found = re.findall(r'# ("\w+": .*)$', self.text, re.MULTILINE)
        return [promise.partition("…")[0].strip() for promise in found]


def blocks(path: Path) -> list[Block]:
    """Return the fenced blocks of a document in order."""
    found: list[Block] = []
    opened: tuple[int, str] | None = None
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        if not line.startswith("```"):
            continue
        if opened is None:
            opened = number, line.removeprefix("```").strip()
            continue
        start, language = opened
        found.append(Block(path, start + 1, language, "\n".join(lines[start : number - 1])))
        opened = None
    assert opened is None, f"{path}:{opened and opened[0]}: this block is not closed"
    return found


def is_setup(block: Block, recognised: Mapping[str, Callable[[], None]]) -> bool:
    """Return True if every command of a shell block sets up an environment."""
    return block.language == "sh" and all(command in recognised for command in block.commands)


@dataclass
class ReaderSession:
    """A shell and a Python that keep the folder and the ids from block to block."""

    url: str
    home: Path
    folder: Path = REPOSITORY
    ids: dict[str, str] = field(default_factory=dict)

    def run(self, block: Block) -> str:
        """Run a block and return its output. Raises AssertionError naming the file and line of the block."""
        text = self._filled(block)
        if block.language == "python":
            command = [sys.executable, "-c", text]
        else:
            command = ["bash", "-c", f'{PREAMBLE}{text}\npwd > "$FOLDER_FILE"']
        folder_file = self.home / "folder"
        environment = {
            **os.environ,
            "PYTHON": sys.executable,
            "PYTHONPATH": str(REPOSITORY),
            "HYPERSERVE_URL": self.url,
            "FOLDER_FILE": str(folder_file),
        }
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        if done.returncode != 0:
            raise AssertionError(
                f"{block.where}: exit status {done.returncode}\n{text}\n{done.stdout}\n{done.stderr}"
            )
        if block.language == "sh":
            self.folder = Path(folder_file.read_text(encoding="utf-8").strip())
        self._remember(done.stdout)
        self._check_promises(block, done.stdout)
        return done.stdout

    def _filled(self, block: Block) -> str:
        text = block.text.replace(DEFAULT_URL, self.url).replace(".venv/bin/hyperserve", "hyperserve")
        for placeholder in re.findall(r"\b(?:TASK|PRED)\b", text):
            if placeholder not in self.ids:
                raise AssertionError(f"{block.where}: no earlier answer had an id for {placeholder}")
            text = text.replace(placeholder, self.ids[placeholder])
        return text

    def _remember(self, output: str) -> None:
        for found in re.findall(r"\b(task|pred)_[0-9a-z]{26}\b", output):
            self.ids[found.upper()] = re.findall(rf"\b{found}_[0-9a-z]{{26}}\b", output)[-1]

    def _check_promises(self, block: Block, output: str) -> None:
        compact = re.sub(r"\s", "", output)
        for promise in block.promises:
            if re.sub(r"\s", "", promise) not in compact:
                raise AssertionError(f"{block.where}: the output does not contain {promise}\n{output}")
