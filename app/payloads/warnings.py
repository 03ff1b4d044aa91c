"""Warnings: properties of a support set or of queries that are allowed but worth knowing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice

import numpy as np
import numpy.typing as npt

from app.http.problems import pointer
from app.payloads.inputs import DecodedInputs
from app.payloads.support import GroundTruth, SubmittedInput, SubmittedSupport, Target
from hyperserve.types import Notice
from models.inputs import is_blank

WARNINGS_MAX = 20
FOREIGN_FIT = 0.05
"""Fit below which a support set is called foreign: one in twenty of home falls below it."""


def support_warnings(
    submitted: SubmittedSupport,
    decoded: DecodedInputs,
    digests: Sequence[str],
    known: Mapping[str, GroundTruth] | None = None,
) -> list[Notice]:
    """Return the first few warnings about blank and about identical examples.

    `known` are the examples that the task has already, by digest. In a regression task zero is a number like any
    other, and one input may well have two targets.
    """
    found: list[Notice] = []
    first = {_identity(digest, truth): truth for digest, truth in (known or {}).items()}
    for example, truth, digest, x in zip(submitted.inputs, submitted.truths, digests, decoded.x, strict=True):
        where, key = pointer(example.location), _identity(digest, truth)
        if truth.target is None and is_blank(x):
            found.append(Notice(code="blank_example", detail="The example is blank.", pointer=where))
        if key in first:
            twin = " of another class" if first[key] != truth else " of the same class"
            detail = f"The example is identical to an earlier one{twin if truth.target is None else ''}."
            found.append(Notice(code="identical_examples", detail=detail, pointer=where))
        first.setdefault(key, truth)
        if len(found) >= WARNINGS_MAX:
            break
    return found[:WARNINGS_MAX]


def query_warnings(submitted: Sequence[SubmittedInput], x: npt.NDArray[np.float32]) -> list[Notice]:
    """Return the first few warnings about blank queries to a classification task."""
    blank = (query for query, one in zip(submitted, x, strict=True) if is_blank(one))
    return [
        Notice(code="blank_query", detail="The query is blank.", pointer=pointer(query.location))
        for query in islice(blank, WARNINGS_MAX)
    ]


def fit_warnings(fit: float | None, where: str | None = None) -> list[Notice]:
    """Return a warning about a support set that is foreign to what the learner's encoder was trained on.

    `where` points to the support set if the request has it.
    """
    if fit is None or fit >= FOREIGN_FIT:
        return []
    detail = (
        f"The support set looks unlike what the learner was trained on (fit {fit:.2g}): its features tell less here, "
        "and its probabilities may be too sure. Compare it with another learner, or give more examples."
    )
    return [Notice(code="unfamiliar_support", detail=detail, pointer=where)]


def _identity(digest: str, truth: GroundTruth) -> tuple[str, Target | None]:
    """Return a key that identical examples share: the input, and the target if there is one."""
    return digest, truth.target
