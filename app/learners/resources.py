"""Process-wide state of learners."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from app.core.settings import Settings
from app.db.blob_collector import BlobCollector
from app.learners.library import Library
from app.learners.served_learners import ServedLearners
from app.runtime import Runtime


@dataclass(frozen=True)
class LearnerResources:
    learners: ServedLearners
    library: Library
    collector: BlobCollector

    @classmethod
    async def open(cls, runtime: Runtime, learners: ServedLearners) -> LearnerResources:
        """Raises `models.artifact.ArtifactError` if a default learner that was configured does not exist."""
        library = Library(runtime, learners)
        runtime.cluster.watcher.subscribe(library.on_changes)
        learners.check_defaults(runtime.settings.chosen_defaults, await library.names())
        return cls(learners, library, runtime.collector)


async def load_learners(settings: Settings) -> ServedLearners:
    """Load the learners that lie in folders. Raises `models.artifact.ArtifactError`."""
    folders = (settings.learners_dir, settings.data_dir / "learners")
    return await asyncio.to_thread(ServedLearners.load, folders, settings.defaults, settings.device)
