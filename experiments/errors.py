"""The root of errors raised by experiments."""

from __future__ import annotations

from models.errors import ModelError


class ExperimentError(ModelError):
    """An experiment cannot run as requested. It is a `ModelError`, so one handler covers experiments and models."""
