"""Python client of hyperserve: create a task from a support set, query it, get calibrated uncertainty."""

from hyperserve.aio.client import AsyncClient
from hyperserve.aio.streams import AsyncStream
from hyperserve.aio.task import AsyncEstimate, AsyncPrediction, AsyncPredictions, AsyncTask
from hyperserve.errors import (
    ArgumentTypeError,
    BadRequestError,
    ConflictError,
    ConnectionFailedError,
    GoneError,
    HyperserveError,
    InvalidArgumentError,
    JobFailedError,
    MalformedAnswerError,
    NotFoundError,
    PreconditionFailedError,
    RateLimitError,
    ServerError,
    ServiceUnavailableError,
    StatusError,
    TimeoutFailedError,
    TooLargeError,
    UnprocessableError,
    WaitTimeoutError,
)
from hyperserve.stream_types import StreamPrediction, StreamPredictions, StreamTask, StreamVersion
from hyperserve.sync.client import Client
from hyperserve.sync.streams import Stream
from hyperserve.sync.task import Estimate, Prediction, Predictions, Task
from hyperserve.types import Dataset, Example, Job, Learner, Version
from hyperserve.version import __version__

__all__ = [
    "ArgumentTypeError",
    "AsyncClient",
    "AsyncEstimate",
    "AsyncPrediction",
    "AsyncPredictions",
    "AsyncStream",
    "AsyncTask",
    "BadRequestError",
    "Client",
    "ConflictError",
    "ConnectionFailedError",
    "Dataset",
    "Estimate",
    "Example",
    "GoneError",
    "HyperserveError",
    "InvalidArgumentError",
    "Job",
    "JobFailedError",
    "Learner",
    "MalformedAnswerError",
    "NotFoundError",
    "PreconditionFailedError",
    "Prediction",
    "Predictions",
    "RateLimitError",
    "ServerError",
    "ServiceUnavailableError",
    "StatusError",
    "Stream",
    "StreamPrediction",
    "StreamPredictions",
    "StreamTask",
    "StreamVersion",
    "Task",
    "TimeoutFailedError",
    "TooLargeError",
    "UnprocessableError",
    "Version",
    "WaitTimeoutError",
    "__version__",
]
