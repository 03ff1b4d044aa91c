"""The root of every exception of `models`: `except ModelError` catches all that this layer raises on purpose."""

from __future__ import annotations


class ModelError(Exception):
    """Something that a learner, its data or its training cannot do; the message says what and where."""


class DownloadError(ModelError):
    """A published data set cannot be downloaded; the message names its address and says why."""
