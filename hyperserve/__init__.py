"""hyperserve's client: post a support set, get a task, query it with uncertainty."""

from hyperserve.client import Client
from hyperserve.errors import (
    BadRequestError,
    ConnectionFailedError,
    HyperserveError,
    MalformedAnswerError,
    NotFoundError,
    RateLimitError,
    ServerError,
    ServiceUnavailableError,
    StatusError,
    TimeoutFailedError,
    TooLargeError,
    UnprocessableError,
)
from hyperserve.tasks import Task
from hyperserve.types import Prediction, Predictions

__all__ = [
    "BadRequestError",
    "Client",
    "ConnectionFailedError",
    "HyperserveError",
    "MalformedAnswerError",
    "NotFoundError",
    "Prediction",
    "Predictions",
    "RateLimitError",
    "ServerError",
    "ServiceUnavailableError",
    "StatusError",
    "Task",
    "TimeoutFailedError",
    "TooLargeError",
    "UnprocessableError",
]
