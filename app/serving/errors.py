"""What can go wrong between a request and its answer. A learner's own `LearnerError` passes unchanged."""

from __future__ import annotations


class ServingError(Exception):
    """Base of all errors of this layer."""


class EngineBusy(ServingError):
    """The queue is full. `retry_after` is the seconds in which about half of it will have been worked off."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"the queue is full; try again in {retry_after:.0f} s")
        self.retry_after = retry_after


class EngineClosed(ServingError):
    """The engine is not running: not started yet, or closing."""


class UnknownLearner(ServingError):
    """No learner of this name is loaded."""


class LearnerFailed(ServingError):
    """The learner raised something that is no `LearnerError`; it stands as `__cause__`."""


class NotFinite(ServingError):
    """The weights or the answer came out as NaN or infinite: the numbers given were too large for float32."""

    def __init__(self, message: str, *, support: bool) -> None:
        super().__init__(message)
        self.support = support
        """Whether the support set is at fault, else the queries."""
