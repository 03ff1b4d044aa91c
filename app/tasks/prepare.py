"""The synchronous half of a request: a body becomes arrays. Runs off the event loop."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from app.db.blobs import digest
from app.http import multipart, strict_json
from app.http.body import Body
from app.http.limits import LIMITS
from app.http.problems import Fault, ProblemError, pointer
from app.http.validation import validated
from app.learners.service import Learners
from app.serving.types import SupportSet
from app.tasks import schemas
from app.tasks.heads import Head
from app.tasks.inputs import Decoded, decode, kind_of
from app.tasks.support import Sent, SentSupport, from_parts, queries_from_json, support_from_json
from hyperserve.types import Notice
from models.artifact import Artifact
from models.inputs import is_blank
from models.protocol import Span

NOTICES_MAX = 20


@dataclass(frozen=True)
class PreparedSupport:
    """A support set ready for its learner, and the bytes to store."""

    artifact: Artifact
    support: SupportSet
    blobs: tuple[tuple[str, bytes], ...]
    """Digest and bytes of each example, in order."""
    kind: str
    warnings: tuple[Notice, ...]

    @property
    def targets(self) -> list[int]:
        """The class of each example."""
        assert self.support.y is not None
        return [int(target) for target in self.support.y]

    @property
    def shots(self) -> list[int]:
        return np.bincount(self.targets, minlength=len(self.support.classes)).tolist()  # type: ignore[no-any-return]


def create(
    body: Body, options: schemas.CreateOptions, learners: Learners
) -> tuple[schemas.CreateOptions, PreparedSupport]:
    if body.kind == "json":
        request = validated(schemas.CreateTask, strict_json.parse(body.data), options)
        return request, _support(support_from_json(request.support), request.learner, learners)
    sent, _ = from_parts(multipart.parse(body), support=True, queries=False)
    assert sent is not None
    return options, _support(sent, options.learner, learners)


def predict_once(
    body: Body, options: schemas.PredictOnceOptions, learners: Learners
) -> tuple[schemas.PredictOnceOptions, PreparedSupport, Decoded]:
    asked: schemas.PredictOnceOptions = options
    if body.kind == "json":
        request = validated(schemas.PredictOnce, strict_json.parse(body.data), options)
        sent, queries, asked = support_from_json(request.support), queries_from_json(request.queries), request
    else:
        parts, queries = from_parts(multipart.parse(body), support=True, queries=True)
        assert parts is not None
        sent = parts
    prepared = _support(sent, asked.learner, learners)
    return asked, prepared, decode(queries, prepared.artifact.config.input, prepared.support.x.shape[1:])


def predict(
    body: Body, options: schemas.PredictOptions, artifact: Artifact, head: Head
) -> tuple[schemas.PredictOptions, tuple[Sent, ...], Decoded | None]:
    """What is asked of a version. Not decoded where the body asks another: its inputs may be of another shape."""
    asked: schemas.PredictOptions = options
    match body.kind:
        case "json":
            request = validated(schemas.Predict, strict_json.parse(body.data), options)
            queries, asked = queries_from_json(request.queries), request
        case "multipart":
            _, queries = from_parts(multipart.parse(body), support=False, queries=True)
        case "image":
            part = multipart.Part("query", "image", body.data)
            queries = (Sent(part, ("queries", 0)),)
    if asked.version != options.version:
        return asked, queries, None
    return asked, queries, decode(queries, artifact.config.input, head.shape)


@dataclass(frozen=True)
class Addition:
    """Examples that are to join a support set."""

    sent: SentSupport
    decoded: Decoded
    blobs: tuple[tuple[str, bytes], ...]
    """Digest and bytes of each example, in order."""

    @property
    def labels(self) -> list[str]:
        return [self.sent.classes[target] for target in self.sent.targets]

    def warnings(self, known: Mapping[str, str]) -> list[Notice]:
        """`known` are the labels of the examples that are there, by digest."""
        digests = [name for name, _ in self.blobs]
        return _warnings(self.sent, self.decoded, digests, known)


def addition(
    body: Body, options: schemas.PromoteOption, artifact: Artifact, shape: Sequence[int]
) -> tuple[schemas.PromoteOption, Addition]:
    asked: schemas.PromoteOption = options
    if body.kind == "json":
        request = validated(schemas.AddSupport, strict_json.parse(body.data), options)
        sent, asked = support_from_json(request.support, ways_min=1), request
    else:
        parts, _ = from_parts(multipart.parse(body), support=True, queries=False, ways_min=1)
        assert parts is not None
        sent = parts
    decoded = decode(sent.examples, artifact.config.input, shape)
    return asked, Addition(sent, decoded, _blobs(decoded))


def _blobs(decoded: Decoded) -> tuple[tuple[str, bytes], ...]:
    return tuple((digest(data), data) for data in (raw.to_bytes() for raw in decoded.raws))


def seed_of(labels: Sequence[str], digests: Sequence[str]) -> int:
    """63 bits of a digest of the support set, whatever its order: the same set, the same answers."""
    pairs = sorted(zip(labels, digests, strict=True))
    sha = hashlib.sha256("\0".join(f"{label}\0{digest}" for label, digest in pairs).encode())
    return int.from_bytes(sha.digest()[:8], "big") >> 1


def _support(sent: SentSupport, name: str | None, learners: Learners) -> PreparedSupport:
    if name is not None:
        artifact = learners.named(name)
    else:
        first = sent.examples[0]
        artifact = learners.default(kind_of(first), pointer(first.location))
    check_traits(np.bincount(sent.targets).tolist(), artifact, learners, "/support")
    decoded = decode(sent.examples, artifact.config.input)
    blobs = _blobs(decoded)
    digests = [name for name, _ in blobs]
    seed = seed_of([sent.classes[target] for target in sent.targets], digests)
    support = SupportSet(decoded.x, np.asarray(sent.targets, dtype=np.int64), sent.classes, seed)
    return PreparedSupport(
        artifact, support, blobs, artifact.config.input.kind, tuple(_warnings(sent, decoded, digests))
    )


def check_traits(shots: Sequence[int], artifact: Artifact, learners: Learners, where: str | None) -> None:
    """Examples of each class. Raises `ProblemError` 422 where the learner does not take them."""
    traits = artifact.learner.traits
    if len(shots) not in traits.ways:
        kind = artifact.config.input.kind
        others = [
            name
            for name, other in learners.artifacts.items()
            if other.config.input.kind == kind and _takes_any(other.learner.traits.ways)
        ]
        advice = f" Any number of them is taken by: {', '.join(others)}." if others else ""
        detail = f"{artifact.name} takes {traits.ways} classes, not {len(shots)}.{advice}"
        raise ProblemError(Fault("unsupported_way", detail, where, traits.ways.nearest(len(shots))))
    wrong = [shot for shot in shots if shot not in traits.shots]
    if wrong:
        detail = f"{artifact.name} takes {traits.shots} examples of each class."
        raise ProblemError(Fault("unsupported_shot", detail, where, traits.shots.nearest(wrong[0])))


def _takes_any(ways: Span) -> bool:
    return ways.high is None and LIMITS.ways_min in ways


def _warnings(
    sent: SentSupport, decoded: Decoded, digests: Sequence[str], known: Mapping[str, str] | None = None
) -> list[Notice]:
    """The first few of: blank examples, examples that stand twice."""
    notices: list[Notice] = []
    first = dict(known or {})
    for index, (example, name) in enumerate(zip(sent.examples, digests, strict=True)):
        where = pointer(example.location)
        if is_blank(decoded.x[index]):
            notices.append(Notice(code="blank_example", detail="The example is blank.", pointer=where))
        label = sent.classes[sent.targets[index]]
        if name in first:
            twin = "another class" if first[name] != label else "the same class"
            detail = f"The example is identical to an earlier one of {twin}."
            notices.append(Notice(code="identical_examples", detail=detail, pointer=where))
        first.setdefault(name, label)
        if len(notices) >= NOTICES_MAX:
            break
    return notices[:NOTICES_MAX]
