"""Choice of the learner of a task, and the checks that the learner takes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from app.http.limits import LIMITS
from app.http.problems import Fault, ProblemError, fail, pointer
from app.learners.served_learners import REGRESSION, ServedLearners
from app.payloads.inputs import inferred_kind
from app.payloads.options import TaskOptions
from app.payloads.support import SubmittedSupport
from app.serving.served_models import target_length
from hyperserve.types import TaskKind
from models.artifact import Artifact


class UnsuitableLearnerError(ProblemError):
    """422: the learner does not take the task, but others may."""

    def __init__(
        self, fault: Fault, artifact: Artifact, label: str, takes: Callable[[Artifact], bool]
    ) -> None:
        """`label` introduces the names of the learners that take the task."""
        super().__init__(fault)
        self._fault = fault
        self._artifact = artifact
        self._label = label
        self._takes = takes

    def suggesting(self, learners: Iterable[Artifact]) -> ProblemError:
        """Return the problem with the names of those learners for this kind of input that take the task."""
        kind = self._artifact.config.input.kind
        names = [one.name for one in learners if one.config.input.kind == kind and self._takes(one)]
        if not names:
            return self
        detail = f"{self._fault.detail} {self._label}: {', '.join(names)}."
        return ProblemError(replace(self._fault, detail=detail))


def choose_learner(submitted: SubmittedSupport, options: TaskOptions, learners: ServedLearners) -> Artifact:
    """Return the learner that the options name, or the default one. Raises `ProblemError` 422 if it does not fit."""
    first = submitted.inputs[0]
    if options.learner is not None:
        artifact = learners.named(options.learner)
    elif options.kind == REGRESSION:
        artifact = learners.default(REGRESSION, "/support")
    else:
        artifact = learners.default(inferred_kind(first), pointer(first.location))
    _check_kind(artifact, options.kind)
    length = len(submitted.targets[0]) if submitted.targets else None
    check_traits(artifact, submitted.shots, length, "/support")
    return artifact


def check_traits(artifact: Artifact, shots: Sequence[int], target: int | None, where: str | None) -> None:
    """Raise `ProblemError` 422 if the learner does not take as many classes or examples, or targets of that length.

    `shots` are the examples of each class; in a regression task their number alone, and `target` is the length.
    """
    traits = artifact.learner.traits
    if target is None:
        _check_ways(artifact, len(shots), where)
    else:
        _check_target(artifact, target, where)
    wrong = [shot for shot in shots if shot not in traits.shots]
    if wrong:
        per_class = " of each class" if target is None else ""
        detail = f"{artifact.name} takes {traits.shots} examples{per_class}."
        raise ProblemError(Fault("unsupported_shot", detail, where, traits.shots.nearest(wrong[0])))


def check_served(artifact: Artifact, target: int | None) -> None:
    """Raise `ProblemError` 503 if the learner of an existing task was replaced by one of another kind."""
    regression = artifact.learner.traits.kind == REGRESSION
    fixed = target_length(artifact)
    if regression != (target is not None) or (regression and fixed not in (None, target)):
        detail = f"The learner that is now served as {artifact.name} does not take tasks of this kind."
        raise fail("learner_unavailable", detail)


def _check_kind(artifact: Artifact, kind: TaskKind) -> None:
    own = artifact.learner.traits.kind
    if own == kind:
        return
    detail = f"{artifact.name} is a learner for {own}, not for {kind}."
    raise UnsuitableLearnerError(
        Fault("wrong_task_kind", detail, "/learner"),
        artifact,
        f"Learners for {kind}",
        lambda other: other.learner.traits.kind == kind,
    )


def _check_ways(artifact: Artifact, ways: int, where: str | None) -> None:
    taken = artifact.learner.traits.ways
    if ways in taken:
        return
    detail = f"{artifact.name} takes {taken} classes, not {ways}."
    raise UnsuitableLearnerError(
        Fault("unsupported_way", detail, where, taken.nearest(ways)),
        artifact,
        "Learners that take any number of classes",
        _takes_any_ways,
    )


def _check_target(artifact: Artifact, length: int, where: str | None) -> None:
    fixed = target_length(artifact)
    if fixed in (None, length):
        return
    detail = f"{artifact.name} takes targets of length {fixed}, not {length}."
    raise UnsuitableLearnerError(
        Fault("target_length", detail, where, fixed),
        artifact,
        "Learners that take targets of this length",
        lambda other: other.learner.traits.kind == REGRESSION and target_length(other) in (None, length),
    )


def _takes_any_ways(artifact: Artifact) -> bool:
    ways = artifact.learner.traits.ways
    return ways.high is None and LIMITS.ways_min in ways
