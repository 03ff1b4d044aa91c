"""The synchronous half of a request: a body becomes arrays. It runs off the event loop.

Options come in the query string or in a JSON body; each function returns them as they came in the end.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from app.db.blobs import digest
from app.http import multipart, strict_json
from app.http.body import Body
from app.http.limits import LIMITS
from app.http.problems import fail
from app.http.validation import validated
from app.learners.served_learners import REGRESSION, ServedLearners
from app.payloads.inputs import DecodedInputs, decode
from app.payloads.options import TaskOptions
from app.payloads.support import (
    GroundTruth,
    SubmittedInput,
    SubmittedSupport,
    normal_label,
    queries_from_json,
    queries_from_parts,
    support_and_queries_from_parts,
    support_from_json,
    support_from_parts,
)
from app.payloads.targets import (
    learner_targets,
    regression_queries,
    regression_support_from_json,
    target_from_json,
    targets_from_json,
    truth_key,
)
from app.payloads.warnings import query_warnings, support_warnings
from app.serving.engine_types import SupportSet
from app.tasks import schemas
from app.tasks.cache import TaskVersionRef
from app.tasks.function_family import range_warnings
from app.tasks.learner_selection import choose_learner
from hyperserve.types import Notice, TaskKind
from models.artifact import Artifact

QueryTargets = npt.NDArray[np.float64]
Inputs = tuple[tuple[str, bytes], ...]
"""Digest and bytes of each input, in order."""


@dataclass(frozen=True)
class PreparedSupport:
    """A support set ready for its learner, and the bytes to store."""

    artifact: Artifact
    support: SupportSet
    submitted: SubmittedSupport
    inputs: Inputs
    warnings: tuple[Notice, ...]

    @property
    def target(self) -> int | None:
        """Length of a target; None if examples have labels."""
        return len(self.submitted.targets[0]) if self.submitted.targets else None


@dataclass(frozen=True)
class PreparedQueries:
    """Queries, which are decoded once the version that answers them is known."""

    submitted: tuple[SubmittedInput, ...]
    targets: QueryTargets | None = None
    """The right answers, if a regression task is given them: [queries, target]."""
    decoded: DecodedInputs | None = None
    warnings: tuple[Notice, ...] = ()

    def decode(self, artifact: Artifact, shape: Sequence[int]) -> PreparedQueries:
        """Return the queries decoded for a learner. Raises `ProblemError`."""
        decoded = decode(self.submitted, artifact.config.input, shape)
        # To a regression task zero is a number like any other.
        numbers = artifact.learner.traits.kind == REGRESSION
        warn = partial(range_warnings, artifact) if numbers else query_warnings
        return replace(self, decoded=decoded, warnings=tuple(warn(self.submitted, decoded.x)))

    @property
    def inputs(self) -> DecodedInputs:
        assert self.decoded is not None
        return self.decoded


@dataclass(frozen=True)
class PreparedAddition:
    """Examples that are to join a support set."""

    submitted: SubmittedSupport
    decoded: DecodedInputs
    inputs: Inputs

    def warnings(self, known: Mapping[str, GroundTruth]) -> list[Notice]:
        """Return warnings, given the examples that the task has already by digest."""
        return support_warnings(self.submitted, self.decoded, [name for name, _ in self.inputs], known)


def create_task(
    body: Body, options: schemas.CreateOptions, learners: ServedLearners
) -> tuple[schemas.CreateOptions, PreparedSupport]:
    if body.kind == "json":
        options = request = validated(schemas.CreateTask, strict_json.parse(body.data), options)
        submitted = _support_from_json(request.support, request.kind)
    else:
        _check_takes_parts(options.kind)
        submitted = support_from_parts(multipart.parse(body))
    return options, _prepared(submitted, options, learners)


def predict_once(
    body: Body, options: schemas.PredictOnceOptions, learners: ServedLearners
) -> tuple[schemas.PredictOnceOptions, PreparedSupport, PreparedQueries]:
    targets: object = None
    if body.kind == "json":
        options = request = validated(schemas.PredictOnce, strict_json.parse(body.data), options)
        submitted = _support_from_json(request.support, request.kind)
        inputs, targets = queries_from_json(request.queries), request.targets
    else:
        _check_takes_parts(options.kind)
        submitted, inputs = support_and_queries_from_parts(multipart.parse(body))
    prepared = _prepared(submitted, options, learners)
    queries = _queries(inputs, targets, prepared.target)
    return options, prepared, queries.decode(prepared.artifact, prepared.support.x.shape[1:])


def predict(
    body: Body, options: schemas.PredictOptions, artifact: Artifact, ref: TaskVersionRef
) -> tuple[schemas.PredictOptions, PreparedQueries]:
    """Prepare queries to `ref`. If the body names another version, they are not decoded: shapes may differ."""
    number, targets = options.version, None
    if body.kind == "json":
        options = request = validated(schemas.Predict, strict_json.parse(body.data), options)
        inputs, targets = queries_from_json(request.queries), request.targets
    else:
        _check_takes_parts(ref.kind)
        if body.kind == "multipart":
            inputs = queries_from_parts(multipart.parse(body))
        else:
            inputs = (SubmittedInput(multipart.Part("query", "image", body.data), ("queries", 0)),)
    queries = _queries(inputs, targets, ref.target)
    return options, queries if options.version != number else queries.decode(artifact, ref.shape)


def add_support(
    body: Body, options: schemas.PromoteOption, artifact: Artifact, ref: TaskVersionRef
) -> tuple[schemas.PromoteOption, PreparedAddition]:
    if body.kind == "json":
        options = request = validated(schemas.AddSupport, strict_json.parse(body.data), options)
        submitted = _support_from_json(request.support, ref.kind, ref.target, ways_min=1)
    else:
        _check_takes_parts(ref.kind)
        submitted = support_from_parts(multipart.parse(body), ways_min=1)
    decoded = decode(submitted.inputs, artifact.config.input, ref.shape)
    return options, PreparedAddition(submitted, decoded, _inputs(decoded))


def relabelling(body: Body) -> schemas.Relabelling:
    """Return the label or target of a small JSON body. Raises `ProblemError` 422."""
    tree = strict_json.parse(body.data)
    if _has_target(tree):
        return validated(schemas.Retarget, tree)
    return validated(schemas.Relabel, tree)


def feedback(body: Body) -> schemas.Relabelling:
    """Return the label or target of a small JSON body. Raises `ProblemError` 422."""
    tree = strict_json.parse(body.data)
    if _has_target(tree):
        return validated(schemas.TargetFeedback, tree)
    return validated(schemas.Feedback, tree)


def truth_of(given: schemas.Relabelling, ref: TaskVersionRef) -> GroundTruth:
    """Return the label or target that was given. Raises `ProblemError` 422 if the task takes the other."""
    if isinstance(given, (schemas.Retarget, schemas.TargetFeedback)):
        if ref.target is None:
            raise fail("wrong_task_kind", "An example of a classification task has a label.", "/target")
        return GroundTruth("", target_from_json(given.target, ("target",), ref.target))
    if ref.target is not None:
        raise fail("wrong_task_kind", "An example of a regression task has a target.", "/label")
    return GroundTruth(normal_label(given.label, "/label"))


def seed_of(labels: Sequence[str], digests: Sequence[str]) -> int:
    """Return 63 bits of a digest of the support set, whatever its order: the same set gives the same answers."""
    pairs = sorted(zip(labels, digests, strict=True))
    sha = hashlib.sha256("\0".join(f"{label}\0{digest}" for label, digest in pairs).encode())
    return int.from_bytes(sha.digest()[:8], "big") >> 1


def _support_from_json(
    value: object, kind: TaskKind, length: int | None = None, ways_min: int = LIMITS.ways_min
) -> SubmittedSupport:
    if kind == REGRESSION:
        return regression_support_from_json(value, length)
    return support_from_json(value, ways_min)


def _check_takes_parts(kind: TaskKind) -> None:
    """Raise `ProblemError` 415 for a regression task: parts and images have no place for targets."""
    if kind == REGRESSION:
        raise fail("unsupported_media_type", "A regression task takes application/json only.")


def _prepared(submitted: SubmittedSupport, options: TaskOptions, learners: ServedLearners) -> PreparedSupport:
    artifact = choose_learner(submitted, options, learners)
    decoded = decode(submitted.inputs, artifact.config.input)
    inputs, truths = _inputs(decoded), submitted.truths
    digests = [name for name, _ in inputs]
    seed = seed_of([truth_key(truth) for truth in truths], digests)
    support = SupportSet(decoded.x, learner_targets(truths, submitted.classes), submitted.classes, seed)
    warnings = (
        *support_warnings(submitted, decoded, digests),
        *range_warnings(artifact, submitted.inputs, decoded.x),
    )
    return PreparedSupport(artifact, support, submitted, inputs, warnings)


def _queries(inputs: tuple[SubmittedInput, ...], targets: object, length: int | None) -> PreparedQueries:
    """Return queries to a task whose targets have that length, or which has labels."""
    if length is None:
        if targets is not None:
            raise fail("wrong_task_kind", "Only a regression task has targets.", "/targets")
        return PreparedQueries(inputs)
    known = None if targets is None else targets_from_json(targets, len(inputs), length)
    return PreparedQueries(regression_queries(inputs), known)


def _inputs(decoded: DecodedInputs) -> Inputs:
    return tuple((digest(data), data) for data in (raw.to_bytes() for raw in decoded.raws))


def _has_target(tree: object) -> bool:
    return isinstance(tree, dict) and "target" in tree and "label" not in tree
