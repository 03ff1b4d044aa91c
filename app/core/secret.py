"""The secret that signs what processes share: from the settings, or generated once and stored in the data folder."""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path

from app.core.errors import AppError
from app.core.settings import Settings

FILE = "secret"
LEAST = 16
"""Least number of characters; a shorter secret could be guessed."""


class SecretError(AppError):
    """The secret is missing or cannot be used."""


def check_secret(settings: Settings) -> None:
    """Raise `SecretError` if a secret must be set and is not: one generated here is unknown to other machines."""
    if settings.redis_url is not None and settings.secret is None:
        raise SecretError(
            "HYPERSERVE_REDIS_URL is set but HYPERSERVE_SECRET is not: values in Redis are signed with the same "
            "secret by all processes. Set it to 16 or more random characters, as `openssl rand -hex 32` prints."
        )


def secret_of(settings: Settings) -> bytes:
    """Return the secret of the settings, else that of the data folder, generating it if there is none.

    Raises `SecretError`, and `OSError` if the folder cannot be written.
    """
    check_secret(settings)
    if settings.secret is not None:
        return settings.secret.get_secret_value().encode()
    path = settings.data_dir / FILE
    if not path.exists():
        _make(path)
    secret = path.read_bytes().strip()
    if len(secret) < LEAST:
        raise SecretError(f"{path} holds fewer than {LEAST} characters: delete it to generate a new secret")
    return secret


def _make(path: Path) -> None:
    """Write a secret atomically, readable by the owner only. If processes race, the first one's stays."""
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
