"""A real PostgreSQL for tests: by URL, or the one that is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.app.server import free_port

VARIABLE = "HYPERSERVE_TEST_POSTGRES"


def _programs() -> Path | None:
    if found := shutil.which("pg_ctl"):
        return Path(found).parent
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    return installed[-1].parent if installed else None


def postgres_url(folder: Path) -> Iterator[str]:
    """URL of an empty database; skips the test where there is no PostgreSQL."""
    if url := os.environ.get(VARIABLE):
        yield url
        return
    programs = _programs()
    if programs is None:
        pytest.skip(f"no PostgreSQL: install it or set {VARIABLE}")
    # The server refuses to run as root.
    become = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"] if os.geteuid() == 0 else []
    data, port = folder / "data", free_port()
    if become:
        for place in (folder, *folder.parents):
            if place != Path("/") and place.stat().st_uid == 0:
                place.chmod(place.stat().st_mode | 0o011)
        shutil.chown(folder, "postgres")

    def run(program: str, *arguments: str) -> None:
        subprocess.run(
            [*become, str(programs / program), *arguments], check=True, capture_output=True, cwd="/"
        )

    run("initdb", "-D", str(data), "-U", "test", "-A", "trust", "--no-sync")
    options = f"-p {port} -k {folder} -h 127.0.0.1 -c fsync=off"
    run("pg_ctl", "-D", str(data), "-o", options, "-l", str(folder / "log"), "-w", "start")
    try:
        yield f"postgresql+psycopg://test@127.0.0.1:{port}/postgres"
    finally:
        run("pg_ctl", "-D", str(data), "-m", "immediate", "stop")
