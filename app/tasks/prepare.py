"""The synchronous half of a request: a body becomes arrays. Runs off the event loop."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
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
) -> tuple[schemas.PredictOptions, Decoded]:
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
    return asked, decode(queries, artifact.config.input, head.shape)


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
    _check_traits(sent, artifact, learners)
    decoded = decode(sent.examples, artifact.config.input)
    blobs = tuple((digest(data), data) for data in (raw.to_bytes() for raw in decoded.raws))
    digests = [name for name, _ in blobs]
    seed = seed_of([sent.classes[target] for target in sent.targets], digests)
    support = SupportSet(decoded.x, np.asarray(sent.targets, dtype=np.int64), sent.classes, seed)
    return PreparedSupport(
        artifact, support, blobs, artifact.config.input.kind, tuple(_warnings(sent, decoded, digests))
    )


def _check_traits(sent: SentSupport, artifact: Artifact, learners: Learners) -> None:
    traits = artifact.learner.traits
    shots = np.bincount(sent.targets)
    if len(sent.classes) not in traits.ways:
        kind = artifact.config.input.kind
        others = [
            name
            for name, other in learners.artifacts.items()
            if other.config.input.kind == kind and _takes_any(other.learner.traits.ways)
        ]
        advice = f" Any number of them is taken by: {', '.join(others)}." if others else ""
        detail = f"{artifact.name} takes {traits.ways} classes, not {len(sent.classes)}.{advice}"
        raise ProblemError(
            Fault("unsupported_way", detail, "/support", traits.ways.nearest(len(sent.classes)))
        )
    wrong = [int(shot) for shot in shots if int(shot) not in traits.shots]
    if wrong:
        detail = f"{artifact.name} takes {traits.shots} examples of each class."
        raise ProblemError(Fault("unsupported_shot", detail, "/support", traits.shots.nearest(wrong[0])))


def _takes_any(ways: Span) -> bool:
    return ways.high is None and LIMITS.ways_min in ways


def _warnings(sent: SentSupport, decoded: Decoded, digests: Sequence[str]) -> list[Notice]:
    """The first few of: blank examples, examples that stand twice."""
    notices: list[Notice] = []
    first: dict[str, int] = {}
    for index, (example, name) in enumerate(zip(sent.examples, digests, strict=True)):
        where = pointer(example.location)
        if is_blank(decoded.x[index]):
            notices.append(Notice(code="blank_example", detail="The example is blank.", pointer=where))
        earlier = first.setdefault(name, index)
        if earlier != index:
            twin = "another class" if sent.targets[earlier] != sent.targets[index] else "the same class"
            detail = f"The example is identical to an earlier one of {twin}."
            notices.append(Notice(code="identical_examples", detail=detail, pointer=where))
        if len(notices) >= NOTICES_MAX:
            break
    return notices[:NOTICES_MAX]
