"""Learners that were trained here: loaded from the blob store as soon as their training is published."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from app.db.blobs import BlobError
from app.db.invalidation_log import EVERYTHING, Change
from app.http.dependencies import DEFAULT_TENANT
from app.learners import files, repository
from app.learners.repository import Trained
from app.learners.service import ServedLearners
from app.runtime import Runtime
from hyperserve.types import Learner, LearnerCard
from models.artifact import Artifact
from models.errors import ModelError

RETRY_SECONDS = 30.0
"""After which a learner that could not be loaded is tried again, when somebody asks."""

log = logging.getLogger("hyperserve")


@dataclass
class _Shelf:
    """What this process has of one name. The lock is held while it is loaded."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    digest: str | None = None
    broken: tuple[str, str] | None = None
    """Digest and reason of what could not be loaded."""
    tried: float = 0.0

    def gave_up(self, digest: str) -> bool:
        """For now: a store that did not answer, or lacked a file, may have it later."""
        recently = time.monotonic() - self.tried < RETRY_SECONDS
        return self.broken is not None and self.broken[0] == digest and recently


class Library:
    """Follows the table of learners for one process. Names of learners from folders are never taken over."""

    def __init__(self, runtime: Runtime, learners: ServedLearners) -> None:
        self._store = runtime.store(DEFAULT_TENANT)
        self._learners = learners
        self._engine = runtime.engine
        self._scratch = runtime.scratch
        self._device = runtime.settings.device
        self._shelves: defaultdict[str, _Shelf] = defaultdict(_Shelf)

    async def start(self) -> None:
        """Loads all that are ready. One that cannot be loaded is shown as failed."""
        self._learners.look_late(self.find)
        for name in await self.names():
            await self.refresh(name)

    async def names(self) -> list[str]:
        """Of the learners that are ready, whether they are loaded or not."""
        async with self._store.read() as session:
            return await repository.names(session)

    async def heard(self, news: Sequence[Change]) -> None:
        """A listener of `app.db.invalidation_log.ChangeWatcher`."""
        names = {change.subject for change in news if change.kind == "learner"}
        if any(change.kind == EVERYTHING for change in news):
            names |= {*self._shelves, *await self.names()}
        for name in sorted(names):
            await self.refresh(name)

    async def find(self, name: str) -> Artifact | None:
        """A learner that may have become ready a moment ago."""
        await self.refresh(name)
        return self._learners.artifacts.get(name)

    async def refresh(self, name: str) -> None:
        """Brings this process to what the database says of a name."""
        if name in self._learners.bundled:
            return
        shelf = self._shelves[name]
        async with shelf.lock:
            async with self._store.read() as session:
                found = await repository.get(session, name)
            if self._shelves.get(name) is not shelf:
                return  # It was unloaded while this waited; who asks next sees what is there now.
            if found is None or found.status != "ready" or found.row.digest is None:
                self._unload(name)
            elif shelf.digest != found.row.digest and not shelf.gave_up(found.row.digest):
                await self._load(name, found.row.digest, shelf)

    def describe(self, trained: Trained) -> Learner:
        """As the wire shows it: what is ready in the database may still be loading here, or not load at all."""
        row, shelf = trained.row, self._shelves.get(trained.row.name)
        made = {"dataset": row.dataset_id, "job": row.job_id}
        artifact = self._learners.artifacts.get(row.name)
        ready = trained.status == "ready"
        if ready and artifact is not None and shelf is not None and shelf.digest == row.digest:
            return self._learners.describe(artifact).model_copy(update=made)
        error = trained.error
        if ready and shelf is not None and shelf.broken is not None and shelf.broken[0] == row.digest:
            error = {"code": "learner_unavailable", "detail": shelf.broken[1]}
        return Learner(
            name=row.name,
            digest=None,
            input=None,
            default=False,
            method=row.method,
            status="failed" if error is not None else "loading" if ready else trained.status,
            traits={},
            ways=None,
            shots=None,
            metrics={},
            error=error,
            **made,
        )

    def card(self, trained: Trained) -> LearnerCard:
        described = self.describe(trained)
        card = self._learners.artifacts[trained.row.name].card if described.status == "ready" else ""
        return LearnerCard(**described.model_dump(), card=card)

    async def _load(self, name: str, digest: str, shelf: _Shelf) -> None:
        try:
            data = await files.fetch(self._store.files(repository.FOLDER), digest)
            artifact = await asyncio.to_thread(files.load_files, data, name, self._scratch, self._device)
            await self._engine.load(artifact)
        except (BlobError, ModelError, RuntimeError, ValueError, OSError) as error:
            # It cannot be read, built or run: the server goes on without it.
            log.warning("a learner could not be loaded: %s", error, extra={"digest": digest})
            shelf.broken = digest, f"The learner could not be loaded: {type(error).__name__}."
            shelf.tried = time.monotonic()
            return
        self._learners.add(artifact)
        shelf.digest, shelf.broken = digest, None

    def _unload(self, name: str) -> None:
        if name in self._learners.artifacts:
            self._learners.remove(name)
            self._engine.unload(name)
        self._shelves.pop(name, None)
