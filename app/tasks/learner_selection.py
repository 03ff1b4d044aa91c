"""Which learner a task is for, and whether that learner takes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from app.http.limits import LIMITS
from app.http.problems import Fault, ProblemError, fail, pointer
from app.learners.service import REGRESSION, Learners
from app.payloads.inputs import kind_of
from app.payloads.support import SentSupport
from app.serving.served_models import target_length
from hyperserve.types import TaskKind
from models.artifact import Artifact
from models.protocol import Span


def chosen(sent: SentSupport, name: str | None, kind: TaskKind, learners: Learners) -> Artifact:
    """The learner of the name, or the default one. Raises `ProblemError` 422 where it does not take the task."""
    first = sent.examples[0]
    if name is not None:
        artifact = learners.named(name)
    elif kind == REGRESSION:
        artifact = learners.default(REGRESSION, "/support")
    else:
        artifact = learners.default(kind_of(first), pointer(first.location))
    _check_kind(artifact, kind, learners, "/learner")
    length = len(sent.values[0]) if sent.values else None
    check_traits(sent.shots, length, artifact, learners, "/support")
    return artifact


def check_traits(
    shots: Sequence[int], target: int | None, artifact: Artifact, learners: Learners, where: str | None
) -> None:
    """Examples of each class; or how many there are, and the length of their targets.

    Raises `ProblemError` 422 where the learner does not take them.
    """
    traits = artifact.learner.traits
    if target is None:
        _check_way(len(shots), artifact, learners, where)
    else:
        _check_target(target, artifact, learners, where)
    wrong = [shot for shot in shots if shot not in traits.shots]
    if wrong:
        of_what = " of each class" if target is None else ""
        detail = f"{artifact.name} takes {traits.shots} examples{of_what}."
        raise ProblemError(Fault("unsupported_shot", detail, where, traits.shots.nearest(wrong[0])))


def check_served(artifact: Artifact, target: int | None) -> None:
    """Of a task that is there. Raises `ProblemError` 503 where the learner of its name is of another kind now."""
    regression = artifact.learner.traits.kind == REGRESSION
    fixed = target_length(artifact)
    if regression != (target is not None) or (regression and fixed not in (None, target)):
        detail = "The learner that is served now does not take tasks of this kind."
        raise fail("learner_unavailable", detail)


def _check_kind(artifact: Artifact, kind: TaskKind, learners: Learners, where: str) -> None:
    if artifact.learner.traits.kind == kind:
        return
    detail = f"{artifact.name} does {artifact.learner.traits.kind}, not {kind}."
    others = _others(artifact, learners, lambda other: other.learner.traits.kind == kind)
    raise fail("wrong_task_kind", detail + _advice(f"{kind.capitalize()} is done by", others), where)


def _check_way(way: int, artifact: Artifact, learners: Learners, where: str | None) -> None:
    ways = artifact.learner.traits.ways
    if way in ways:
        return
    others = _others(artifact, learners, lambda other: _takes_any(other.learner.traits.ways))
    detail = f"{artifact.name} takes {ways} classes, not {way}."
    detail += _advice("Any number of them is taken by", others)
    raise ProblemError(Fault("unsupported_way", detail, where, ways.nearest(way)))


def _check_target(length: int, artifact: Artifact, learners: Learners, where: str | None) -> None:
    fixed = target_length(artifact)
    if fixed in (None, length):
        return
    others = _others(
        artifact,
        learners,
        lambda other: other.learner.traits.kind == REGRESSION and target_length(other) in (None, length),
    )
    detail = f"{artifact.name} takes targets of length {fixed}, not {length}."
    detail += _advice("That length is taken by", others)
    raise ProblemError(Fault("target_length", detail, where, fixed))


def _others(artifact: Artifact, learners: Learners, fits: Callable[[Artifact], bool]) -> list[str]:
    """Names of learners of the same kind of input."""
    kind = artifact.config.input.kind
    named = learners.artifacts.items()
    return [name for name, other in named if other.config.input.kind == kind and fits(other)]


def _advice(words: str, names: Sequence[str]) -> str:
    return f" {words}: {', '.join(names)}." if names else ""


def _takes_any(ways: Span) -> bool:
    return ways.high is None and LIMITS.ways_min in ways
