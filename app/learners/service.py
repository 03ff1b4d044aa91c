"""The learners that are served, by name and by the input kinds they are the default of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from app.http.problems import fail
from hyperserve.types import Learner, LearnerCard, SpanOut
from models.artifact import CONFIG_FILE, Artifact, load
from models.protocol import Span


class Learners:
    """All loaded artifacts. `defaults` maps an input kind to the learner that answers when none is named."""

    def __init__(self, artifacts: Mapping[str, Artifact], defaults: Mapping[str, str]) -> None:
        self.artifacts = dict(sorted(artifacts.items()))
        self._defaults = {kind: name for kind, name in defaults.items() if name in artifacts}

    @classmethod
    def load(cls, folder: Path, defaults: Mapping[str, str], device: str) -> Learners:
        """Every folder with a config is a learner. Raises `models.artifact.ArtifactError`."""
        folders = sorted(path.parent for path in folder.glob(f"*/{CONFIG_FILE}"))
        return cls({path.name: load(path, device=device) for path in folders}, defaults)

    def named(self, name: str) -> Artifact:
        """Raises `ProblemError` 422."""
        if name not in self.artifacts:
            served = ", ".join(self.artifacts) or "none"
            raise fail("unknown_learner", f"There is no such learner; served are: {served}.", "/learner")
        return self.artifacts[name]

    def default(self, kind: str, pointer: str) -> Artifact:
        """Raises `ProblemError` 422."""
        if kind not in self._defaults:
            raise fail("no_default_learner", f"No learner takes {kind}s unasked; name one.", pointer)
        return self.artifacts[self._defaults[kind]]

    def describe(self, artifact: Artifact) -> Learner:
        config, traits = artifact.config, artifact.learner.traits
        return Learner(
            name=artifact.name,
            digest=artifact.short_digest,
            input=config.input.model_dump(mode="json"),
            default=self._defaults.get(config.input.kind) == artifact.name,
            method=config.method,
            status="ready",
            traits={name: value for name, value in vars(traits).items() if isinstance(value, (bool, str))},
            ways=_span(traits.ways),
            shots=_span(traits.shots),
            metrics=config.metrics,
        )

    def card(self, artifact: Artifact) -> LearnerCard:
        return LearnerCard(**self.describe(artifact).model_dump(), card=artifact.card)


def _span(span: Span) -> SpanOut:
    return SpanOut(min=span.low, max=span.high)
