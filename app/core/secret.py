"""The secret that signs what processes share: given, or made up once and kept in the data folder."""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path

from app.core.errors import AppError
from app.core.settings import Settings

FILE = "secret"
LEAST = 16
"""Characters; below, it could be guessed."""


class SecretError(AppError):
    """There is no secret, or none that can be used."""


def check_secret(settings: Settings) -> None:
    """Raises `SecretError` where one must be given: a secret of this machine's is none to others."""
    if settings.redis_url is not None and settings.secret is None:
        raise SecretError(
            "HYPERSERVE_REDIS_URL is set but HYPERSERVE_SECRET is not: what goes through Redis is signed, "
            "by the same secret in all processes. Set it to 16 or more random characters, as "
            "`openssl rand -hex 32` prints."
        )


def secret_of(settings: Settings) -> bytes:
    """The one that is given, else that of the data folder, which is made where there is none.

    Raises `SecretError`, and `OSError` where the folder cannot be written.
    """
    check_secret(settings)
    if settings.secret is not None:
        return settings.secret.get_secret_value().encode()
    path = settings.data_dir / FILE
    if not path.exists():
        _make(path)
    secret = path.read_bytes().strip()
    if len(secret) < LEAST:
        raise SecretError(f"{path} holds fewer than {LEAST} characters: delete it, and a new one is made up")
    return secret


def _make(path: Path) -> None:
    """Whole or not at all, for the owner's eyes only. Of processes that race the first one's stays."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{FILE}-")
    draft = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_hex(32).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            return
    finally:
        draft.unlink()
