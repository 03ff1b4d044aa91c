"""Learners by name or path, and the zoo of those that the package ships."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from app.core.settings import REPOSITORY
from models import artifact
from models.artifact import CONFIG_FILE, Artifact

ZOO = REPOSITORY / "models" / "zoo"


def learner_at(name: str) -> Artifact:
    """Load a learner by its name in the zoo or its path. Raises `ArtifactError`."""
    shipped = ZOO / name
    folder = shipped if shipped.is_dir() else Path(name)
    # A training keeps its learner in a folder `learner`; the training's folder has the learner's name.
    return artifact.load(folder, folder.resolve().parent.name if folder.name == "learner" else None)


def zoo_learners() -> Iterator[Artifact]:
    """Load the learners that the package ships, in the order of their names."""
    return (artifact.load(file.parent) for file in sorted(ZOO.glob(f"*/{CONFIG_FILE}")))
