"""Generate the synchronous client from the asynchronous one.

python -m tools.make_sync

A test checks that hyperserve/sync is up to date.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "hyperserve"
HEADER = (
    "# Generated from hyperserve/aio/{name} by `python -m tools.make_sync`: change that file, not this one.\n"
)
HANDWRITTEN = "io.py"
REPLACEMENTS = [
    (r"\[(\w+) async for \1 in (\w+)\]", r"list(\2)"),
    (r"\basync (def|with|for)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\bAsyncGenerator\[(.*), None\]", r"Generator[\1, None, None]"),
    (r"\bAsync(?=[A-Z])", ""),
    (r"__a(enter|exit|iter|next)__", r"__\1__"),
    (r"\ba(close|closing|read|iter_bytes)\b", r"\1"),
    (r"\bhyperserve\.aio\b", "hyperserve.sync"),
    (r"\bThe asynchronous", "The synchronous"),
]


def synchronous(name: str) -> str:
    """Return the source of one module of hyperserve/sync."""
    source = (PACKAGE / "aio" / name).read_text(encoding="utf-8")
    for pattern, replacement in REPLACEMENTS:
        source = re.sub(pattern, replacement, source)
    return _tidy(
        _tidy(HEADER.format(name=name) + source, "check", "--select=I,F401", "--fix", "-q"), "format"
    )


def modules() -> list[str]:
    """Return the file names of the generated modules."""
    names = sorted(path.name for path in (PACKAGE / "aio").glob("*.py"))
    return [name for name in names if name not in (HANDWRITTEN, "__init__.py")]


def _tidy(source: str, *command: str) -> str:
    """Return the source after a ruff command, which sorts imports or breaks lines as the project does."""
    ruff = [sys.executable, "-m", "ruff", *command, "--stdin-filename=hyperserve/sync/module.py", "-"]
    done = subprocess.run(
        ruff, input=source, cwd=PACKAGE.parent, capture_output=True, text=True, encoding="utf-8", check=True
    )
    return done.stdout


def main() -> None:
    """Write hyperserve/sync."""
    for name in modules():
        (PACKAGE / "sync" / name).write_text(synchronous(name), encoding="utf-8")


if __name__ == "__main__":
    main()
