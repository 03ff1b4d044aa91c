"""The learners that are served, by name and by the input kinds they are the default of."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from app.http.problems import Fault, ProblemError, fail
from app.learners.folders import LearnerFailure, failure, load_folders
from hyperserve.types import Learner, LearnerCard, SpanOut
from models.artifact import Artifact, ArtifactError
from models.protocol import Span
from models.training.search import axis_of

log = logging.getLogger("hyperserve")

REGRESSION = "regression"
LateLookup = Callable[[str], Awaitable[Artifact | None]]
"""Looks up a learner that is not loaded: it may have been trained a moment ago."""


class UnknownLearnerError(ProblemError):
    """422: no learner of the name is here; `ServedLearners.find` may still find it."""

    def __init__(self, name: str, served: Sequence[str]) -> None:
        names = ", ".join(served) or "none"
        detail = f"There is no such learner; served are: {names}."
        super().__init__(Fault("unknown_learner", detail, "/learner"))
        self.name = name


class ServedLearners:
    """All loaded artifacts.

    `defaults` maps an input kind, or `REGRESSION`, to the learner that answers if none is named.
    """

    def __init__(
        self,
        artifacts: Mapping[str, Artifact],
        defaults: Mapping[str, str],
        failures: Mapping[str, LearnerFailure] | None = None,
    ) -> None:
        self.artifacts: Mapping[str, Artifact] = dict(sorted(artifacts.items()))
        """Never changed, only replaced: threads read it."""
        self.failures: Mapping[str, LearnerFailure] = dict(failures or {})
        """Learners in folders that cannot be served. Never changed, only replaced."""
        self.bundled = frozenset((*artifacts, *self.failures))
        """Names of the learners that lie in folders."""
        self._defaults = dict(defaults)
        self._late: LateLookup | None = None

    @classmethod
    def load(cls, folders: Sequence[Path], defaults: Mapping[str, str], device: str) -> ServedLearners:
        """Load the learners in folders; one that fails is listed as failed. Raises what `load_folders` raises."""
        loaded = load_folders(folders, device)
        for name, failed in loaded.failures.items():
            log.error("the learner %s cannot be served: %s", name, failed.reason)
        return cls(loaded.artifacts, defaults, loaded.failures)

    def check_defaults(self, chosen: Mapping[str, str], others: Sequence[str] = ()) -> None:
        """Raise `ArtifactError` if a configured default is not a learner, or takes another kind of input.

        `others` are learners that are trained but not loaded.
        """
        for kind, name in chosen.items():
            artifact = self.artifacts.get(name)
            if name in self.failures:
                raise ArtifactError(
                    f"the default learner of {_plural(kind)}, {name!r}, cannot be served: "
                    f"{self.failures[name].reason}"
                )
            if artifact is None and name not in others:
                served = ", ".join(self.artifacts) or "none"
                raise ArtifactError(
                    f"the default learner of {_plural(kind)}, {name!r}, is not there; served: {served}"
                )
            if artifact is not None and (takes := _role(artifact)) != kind:
                raise ArtifactError(
                    f"the default learner of {_plural(kind)}, {name!r}, takes {_plural(takes)}"
                )

    def add(self, artifact: Artifact) -> None:
        """Add a learner that the engine has loaded."""
        self.artifacts = dict(sorted({**self.artifacts, artifact.name: artifact}.items()))

    def remove(self, name: str) -> None:
        self.artifacts = {other: artifact for other, artifact in self.artifacts.items() if other != name}

    def fail(self, name: str, error: Exception) -> None:
        """Stop serving a learner of a folder that cannot answer."""
        found = failure(self.artifacts[name].path, error)
        log.error("the learner %s cannot be served: %s", name, found.reason)
        self.remove(name)
        self.failures = {**self.failures, name: found}

    def set_late_lookup(self, late: LateLookup) -> None:
        """Set the lookup of learners that are not loaded."""
        self._late = late

    async def find(self, name: str) -> Artifact | None:
        if name in self.artifacts or self._late is None:
            return self.artifacts.get(name)
        return await self._late(name)

    def named(self, name: str) -> Artifact:
        """Return a loaded learner. Raises `UnknownLearnerError`, and `ProblemError` 503 if it failed to load."""
        artifact = self.artifacts.get(name)
        if name in self.failures:
            raise _failed(name)
        if artifact is None:
            raise UnknownLearnerError(name, list(self.artifacts))
        return artifact

    def default(self, kind: str, pointer: str) -> Artifact:
        """Return the default learner of an input kind, or of regression.

        Raises `ProblemError` 422 if there is none, and 503 if it failed to load.
        """
        name = self._defaults.get(kind, "")
        if name in self.failures:
            raise _failed(name)
        artifact = self.artifacts.get(name)
        if artifact is None or _role(artifact) != kind:
            raise fail("no_default_learner", f"No learner takes {_plural(kind)} unasked; name one.", pointer)
        return artifact

    def describe(self, artifact: Artifact) -> Learner:
        config, traits = artifact.config, artifact.learner.traits
        return Learner(
            name=artifact.name,
            digest=artifact.short_digest,
            input=config.input.model_dump(mode="json"),
            default=self._defaults.get(_role(artifact)) == artifact.name,
            method=config.method,
            status="ready",
            kind=traits.kind,
            traits={
                **{name: value for name, value in vars(traits).items() if isinstance(value, (bool, str))},
                **axis_of(config.training),
            },
            ways=_span(traits.ways),
            shots=_span(traits.shots),
            metrics=config.metrics,
        )

    def card(self, artifact: Artifact) -> LearnerCard:
        return LearnerCard(**self.describe(artifact).model_dump(), card=artifact.card)

    def described_bundled(self) -> dict[str, Learner]:
        """Return the learners of folders, served or failed, as clients see them."""
        served = {name: self.describe(one) for name, one in self.artifacts.items() if name in self.bundled}
        return served | {name: self.describe_failed(name) for name in self.failures}

    def describe_failed(self, name: str) -> Learner:
        found = self.failures[name]
        return Learner(
            name=name,
            digest=None,
            input=None,
            default=False,
            method=found.method,
            status="failed",
            traits={},
            ways=None,
            shots=None,
            metrics={},
            error={"code": "learner_unavailable", "detail": found.reason},
        )

    def bundled_card(self, name: str) -> LearnerCard:
        """Return a learner of a folder with its card, which is empty if the learner failed."""
        if name in self.failures:
            return LearnerCard(**self.describe_failed(name).model_dump(), card="")
        return self.card(self.artifacts[name])


def _failed(name: str) -> ProblemError:
    return fail(
        "learner_unavailable", f"The learner {name} cannot be served: GET /v1/learners/{name} says why."
    )


def _role(artifact: Artifact) -> str:
    """Return the input kind, or `REGRESSION`, that the learner may be the default of."""
    regression = artifact.learner.traits.kind == REGRESSION
    return REGRESSION if regression else artifact.config.input.kind


def _plural(role: str) -> str:
    return "regression tasks" if role == REGRESSION else f"{role}s"


def _span(span: Span) -> SpanOut:
    return SpanOut(min=span.low, max=span.high)
