"""What worker processes log, and how."""

from __future__ import annotations

import logging

from app.settings import Settings


def configure(settings: Settings) -> None:
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(message)s")
