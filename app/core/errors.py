"""The roots of every exception of `app`: `except AppError` catches all that the application raises on purpose."""

from __future__ import annotations


class AppError(Exception):
    """The application cannot do something; the message says what and where."""


class UnavailableError(AppError):
    """A service that this one depends on does not answer; the same attempt may succeed later."""
