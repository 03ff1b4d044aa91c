"""The synchronous half of a request: a body becomes arrays. Runs off the event loop."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from app.db.blobs import digest
from app.http import multipart, strict_json
from app.http.body import Body
from app.http.limits import LIMITS
from app.http.problems import fail
from app.http.validation import validated
from app.learners.service import REGRESSION, Learners
from app.payloads.inputs import Decoded, decode
from app.payloads.options import TaskOptions
from app.payloads.support import (
    Aim,
    Sent,
    SentSupport,
    from_parts,
    normal_label,
    queries_from_json,
    support_from_json,
)
from app.payloads.targets import (
    aim_key,
    goals,
    inputs_of,
    pairs_from_json,
    target_from_json,
    targets_from_json,
)
from app.payloads.warnings import notices
from app.serving.types import SupportSet
from app.tasks import schemas
from app.tasks.cache import Head
from app.tasks.learner_selection import chosen
from hyperserve.types import Notice, TaskKind
from models.artifact import Artifact

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PreparedSupport:
    """A support set ready for its learner, and the bytes to store."""

    artifact: Artifact
    support: SupportSet
    sent: SentSupport
    blobs: tuple[tuple[str, bytes], ...]
    """Digest and bytes of each example, in order."""
    warnings: tuple[Notice, ...]

    @property
    def kind(self) -> str:
        """Of its inputs."""
        return self.artifact.config.input.kind

    @property
    def target(self) -> int | None:
        """Length of a target."""
        return len(self.sent.values[0]) if self.sent.values else None


@dataclass(frozen=True)
class Queries:
    """What is asked, decoded when it is known of whom."""

    sents: tuple[Sent, ...]
    targets: Values | None = None
    """The right answers, where a regression task is given them: [queries, target]."""
    decoded: Decoded | None = None

    def decoded_by(self, artifact: Artifact, shape: Sequence[int]) -> Queries:
        """Raises `ProblemError`."""
        return replace(self, decoded=decode(self.sents, artifact.config.input, shape))

    @property
    def inputs(self) -> Decoded:
        assert self.decoded is not None
        return self.decoded


def create(
    body: Body, options: schemas.CreateOptions, learners: Learners
) -> tuple[schemas.CreateOptions, PreparedSupport]:
    if body.kind == "json":
        request = validated(schemas.CreateTask, strict_json.parse(body.data), options)
        return request, _support(_sent(request.support, request.kind), request, learners)
    _check_form(options.kind)
    sent, _ = from_parts(multipart.parse(body), support=True, queries=False)
    assert sent is not None
    return options, _support(sent, options, learners)


def predict_once(
    body: Body, options: schemas.PredictOnceOptions, learners: Learners
) -> tuple[schemas.PredictOnceOptions, PreparedSupport, Queries]:
    asked: schemas.PredictOnceOptions = options
    given: object = None
    if body.kind == "json":
        request = validated(schemas.PredictOnce, strict_json.parse(body.data), options)
        sent, sents, asked = _sent(request.support, request.kind), queries_from_json(request.queries), request
        given = request.targets
    else:
        _check_form(options.kind)
        parts, sents = from_parts(multipart.parse(body), support=True, queries=True)
        assert parts is not None
        sent = parts
    prepared = _support(sent, asked, learners)
    queries = _queries(sents, given, prepared.target)
    return asked, prepared, queries.decoded_by(prepared.artifact, prepared.support.x.shape[1:])


def predict(
    body: Body, options: schemas.PredictOptions, artifact: Artifact, head: Head
) -> tuple[schemas.PredictOptions, Queries]:
    """What is asked of a version. Not decoded where the body asks another: its inputs may be of another shape."""
    asked: schemas.PredictOptions = options
    given: object = None
    if body.kind == "json":
        request = validated(schemas.Predict, strict_json.parse(body.data), options)
        sents, asked, given = queries_from_json(request.queries), request, request.targets
    else:
        _check_form(head.kind)
        if body.kind == "multipart":
            _, sents = from_parts(multipart.parse(body), support=False, queries=True)
        else:
            sents = (Sent(multipart.Part("query", "image", body.data), ("queries", 0)),)
    queries = _queries(sents, given, head.target)
    return asked, queries if asked.version != options.version else queries.decoded_by(artifact, head.shape)


@dataclass(frozen=True)
class Addition:
    """Examples that are to join a support set."""

    sent: SentSupport
    decoded: Decoded
    blobs: tuple[tuple[str, bytes], ...]
    """Digest and bytes of each example, in order."""

    def warnings(self, known: Mapping[str, Aim]) -> list[Notice]:
        """`known` are the examples that are there, by digest."""
        digests = [name for name, _ in self.blobs]
        return notices(self.sent, self.decoded, digests, known)


def addition(
    body: Body, options: schemas.PromoteOption, artifact: Artifact, head: Head
) -> tuple[schemas.PromoteOption, Addition]:
    asked: schemas.PromoteOption = options
    if body.kind == "json":
        request = validated(schemas.AddSupport, strict_json.parse(body.data), options)
        sent, asked = _sent(request.support, head.kind, head.target, ways_min=1), request
    else:
        _check_form(head.kind)
        parts, _ = from_parts(multipart.parse(body), support=True, queries=False, ways_min=1)
        assert parts is not None
        sent = parts
    decoded = decode(sent.examples, artifact.config.input, head.shape)
    return asked, Addition(sent, decoded, _blobs(decoded))


def _blobs(decoded: Decoded) -> tuple[tuple[str, bytes], ...]:
    return tuple((digest(data), data) for data in (raw.to_bytes() for raw in decoded.raws))


def seed_of(labels: Sequence[str], digests: Sequence[str]) -> int:
    """63 bits of a digest of the support set, whatever its order: the same set, the same answers."""
    pairs = sorted(zip(labels, digests, strict=True))
    sha = hashlib.sha256("\0".join(f"{label}\0{digest}" for label, digest in pairs).encode())
    return int.from_bytes(sha.digest()[:8], "big") >> 1


def _sent(
    value: object, kind: TaskKind, length: int | None = None, ways_min: int = LIMITS.ways_min
) -> SentSupport:
    if kind == REGRESSION:
        return pairs_from_json(value, length)
    return support_from_json(value, ways_min)


def _check_form(kind: TaskKind) -> None:
    """Raises `ProblemError` 415: parts and pictures have no place for numbers."""
    if kind == REGRESSION:
        raise fail("unsupported_media_type", "A regression task takes application/json.")


def _queries(sents: tuple[Sent, ...], given: object, target: int | None) -> Queries:
    """`target` is the length of a target of the task that is asked."""
    if target is None:
        if given is not None:
            raise fail("wrong_task_kind", "Only a regression task has targets.", "/targets")
        return Queries(sents)
    return Queries(inputs_of(sents), None if given is None else targets_from_json(given, len(sents), target))


def _support(sent: SentSupport, asked: TaskOptions, learners: Learners) -> PreparedSupport:
    artifact = chosen(sent, asked.learner, asked.kind, learners)
    decoded = decode(sent.examples, artifact.config.input)
    blobs = _blobs(decoded)
    digests = [name for name, _ in blobs]
    seed = seed_of([aim_key(aim) for aim in sent.aims], digests)
    support = SupportSet(decoded.x, goals(sent.aims, sent.classes), sent.classes, seed)
    return PreparedSupport(artifact, support, sent, blobs, tuple(notices(sent, decoded, digests)))


def relabel_from_json(tree: object) -> schemas.Wanted:
    """Raises `ProblemError` 422."""
    if _has_target(tree):
        return validated(schemas.Retarget, tree)
    return validated(schemas.Relabel, tree)


def feedback_from_json(tree: object) -> schemas.Wanted:
    """Raises `ProblemError` 422."""
    if _has_target(tree):
        return validated(schemas.TargetFeedback, tree)
    return validated(schemas.Feedback, tree)


def aim_of(wanted: schemas.Wanted, head: Head) -> Aim:
    """Raises `ProblemError` 422, where it is not what examples of the task have."""
    if isinstance(wanted, (schemas.Retarget, schemas.TargetFeedback)):
        if head.target is None:
            raise fail("wrong_task_kind", "An example of a classification task has a label.", "/target")
        return "", target_from_json(wanted.target, ("target",), head.target)
    if head.target is not None:
        raise fail("wrong_task_kind", "An example of a regression task has a target.", "/label")
    return normal_label(wanted.label, "/label"), None


def _has_target(tree: object) -> bool:
    return isinstance(tree, dict) and "target" in tree and "label" not in tree
