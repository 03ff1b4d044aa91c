"""The console script. Its commands are part of the server, which the client does without."""

from __future__ import annotations

import sys

from hyperserve.version import __version__

_SERVER_PACKAGES = frozenset(
    {"alembic", "app", "fastapi", "models", "numpy", "rich", "torch", "typer", "uvicorn"}
)

_HELP = """\
The `hyperserve` command runs the server, which is not installed here (no module {missing}; client {version}).
The Python client is: `from hyperserve import Client`.
To install the server, run in a checkout of hyperserve: pip install -e '.[server]'
"""


def main() -> None:
    """Run the server's command line; exit with 2 and a hint if the server is not installed."""
    try:
        from app.cli.encoding import replace_unknown_characters
        from app.cli.root import app
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _SERVER_PACKAGES:
            raise
        sys.stderr.write(_HELP.format(missing=error.name, version=__version__))
        sys.exit(2)
    replace_unknown_characters()
    app()
