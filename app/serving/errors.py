"""Errors between a request and its answer. A learner's own `LearnerError` passes unchanged."""

from __future__ import annotations

from app.core.errors import AppError


class ServingError(AppError):
    """The base of all errors of this layer."""


class EngineBusyError(ServingError):
    """The queue is full. `retry_after` is the number of seconds in which about half of it will be worked off."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"the queue is full; try again in {retry_after:.0f} s")
        self.retry_after = retry_after


class EngineClosedError(ServingError):
    """The engine is not running: it has not been started, or it is closing."""


class LearnerNotLoadedError(ServingError):
    """No learner of this name is loaded."""


class LearnerFailedError(ServingError):
    """The learner raised something other than a `LearnerError`, which is the `__cause__`."""


class NotFiniteError(ServingError):
    """The weights or the answer are NaN or infinite: the numbers given are too large for float32."""

    def __init__(self, message: str, *, support: bool) -> None:
        super().__init__(message)
        self.support = support
        """True if the support set is at fault, false if the queries are."""
