"""The console script. The commands live in the server, which the client alone does not bring."""

from __future__ import annotations

import sys

_SERVER_PACKAGES = frozenset(
    {"alembic", "app", "fastapi", "models", "numpy", "rich", "torch", "typer", "uvicorn"}
)

_HELP = """\
The `hyperserve` command runs the server, and the server is not installed here (no module {missing}).
The Python client is: `from hyperserve import Client`.
To get the server, from a checkout of hyperserve: pip install -e '.[server]'
"""


def main() -> None:
    """Run the server's command line; exit with 2 and a hint where the server is not installed."""
    try:
        from app.cli.root import app
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _SERVER_PACKAGES:
            raise
        sys.stderr.write(_HELP.format(missing=error.name))
        sys.exit(2)
    app()
