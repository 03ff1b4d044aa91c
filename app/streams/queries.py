"""What is asked of a stream: a body becomes arrays. Runs off the event loop."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydantic import Field

from app.http import multipart, strict_json
from app.http.body import Body
from app.http.fields import Options, Slug
from app.http.limits import COVERAGE_DEFAULT, TOP_MAX
from app.http.validation import validated
from app.tasks.inputs import decode
from app.tasks.schemas import Number, QueriesField
from app.tasks.support import Sent, from_parts, queries_from_json
from models.continual.config import StreamConfig


class PredictOptions(Options):
    task: Slug | None = Field(
        default=None, description="Name of a stream task; left out, it is inferred for each query."
    )
    version: Number | None = Field(default=None, description="A version's number; left out, the current one.")
    coverage: float = Field(
        default=COVERAGE_DEFAULT,
        gt=0,
        lt=1,
        description="Probability that prediction sets shall hold together.",
    )
    top: int | None = Field(
        default=None,
        ge=1,
        le=TOP_MAX,
        description="Report this many most probable classes only, in falling order.",
    )


class StreamPredict(PredictOptions):
    """Queries to a stream."""

    queries: QueriesField


def asked(body: Body, options: PredictOptions) -> tuple[PredictOptions, tuple[Sent, ...]]:
    """Raises `ProblemError`."""
    if body.kind == "json":
        request = validated(StreamPredict, strict_json.parse(body.data), options)
        return request, queries_from_json(request.queries)
    if body.kind == "multipart":
        _, sents = from_parts(multipart.parse(body), support=False, queries=True)
        return options, sents
    return options, (Sent(multipart.Part("query", "image", body.data), ("queries", 0)),)


def decoded(sents: tuple[Sent, ...], config: StreamConfig) -> npt.NDArray[np.float32]:
    """Array [n, *input]. Raises `ProblemError`."""
    shape = config.shape if config.encoder is None and config.input.kind == "vector" else None
    return decode(sents, config.input, shape).x
