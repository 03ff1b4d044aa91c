"""The secret: given, or made up once; never a process's own where Redis is shared."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import SecretStr

from app.core.secret import SecretError, check_secret, secret_of
from app.core.settings import Settings

REDIS = "redis://127.0.0.1:1/0"
GIVEN = SecretStr("sixteen or more characters")


def test_made_up_once_for_the_owner_only(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, secret=None)
    secret = secret_of(settings)
    assert len(secret) == 64
    assert secret_of(settings) == secret
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


def test_processes_that_race_agree(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        found = set(pool.map(lambda _: secret_of(Settings(data_dir=tmp_path, secret=None)), range(64)))
    assert len(found) == 1


def test_given_stands_over_made_up(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, secret=GIVEN, redis_url=REDIS)
    assert secret_of(settings) == GIVEN.get_secret_value().encode()
    assert list(tmp_path.iterdir()) == []


def test_damaged_is_told(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"")
    with pytest.raises(SecretError, match="delete it"):
        secret_of(Settings(data_dir=tmp_path, secret=None))


def test_redis_without_a_secret_is_refused(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, redis_url=REDIS, secret=None)
    with pytest.raises(SecretError, match="HYPERSERVE_SECRET"):
        check_secret(settings)
    with pytest.raises(SecretError, match="HYPERSERVE_SECRET"):
        secret_of(settings)
    assert list(tmp_path.iterdir()) == []


def test_serve_refuses_to_start(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hyperserve", "serve", "--port", "0"],
        env={"HYPERSERVE_DATA_DIR": str(tmp_path), "HYPERSERVE_REDIS_URL": REDIS, "PATH": "/usr/bin"},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("hyperserve: HYPERSERVE_REDIS_URL is set but HYPERSERVE_SECRET is not")
    assert "Traceback" not in done.stderr
