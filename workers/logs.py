"""What worker processes log, and how: as the server does."""

from __future__ import annotations

from logging.config import dictConfig

from app.core.settings import Settings
from app.telemetry import logs


def configure(settings: Settings) -> None:
    dictConfig(logs.config(settings.log_format, settings.log_level))
