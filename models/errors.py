"""The root of every exception of `models`: `except ModelError` catches all that this layer raises on purpose."""

from __future__ import annotations


class ModelError(Exception):
    """Something that a learner, its data or its training cannot do; the message says what and where."""


LEARNER_ERRORS = (
    ModelError,
    *(OSError, ImportError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError),
    *(AssertionError, RuntimeError),
)
"""Errors of a learner that cannot be read, built or run: its files may be damaged, its method that of a package."""


class DownloadError(ModelError):
    """A published data set cannot be downloaded; the message names its address and says why."""
