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
from app.learners.served_learners import ServedLearners
from app.runtime import Runtime
from hyperserve.types import Learner, LearnerCard
from models.artifact import Artifact
from models.errors import ModelError

RETRY_SECONDS = 30.0
"""Time after which a learner that could not be loaded is tried again on request."""

log = logging.getLogger("hyperserve")


@dataclass
class _LearnerState:
    """State of one name in this process. The lock is held while the learner is loaded."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    digest: str | None = None
    broken: tuple[str, str] | None = None
    """Digest of a learner that could not be loaded, and the reason."""
    tried: float = 0.0

    def is_backing_off(self, digest: str) -> bool:
        """Return whether to wait before the next try: a store that did not answer may answer later."""
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
        self._states: defaultdict[str, _LearnerState] = defaultdict(_LearnerState)

    async def start(self) -> None:
        """Load all learners that are ready. One that cannot be loaded is shown as failed."""
        self._learners.set_late_lookup(self.find)
        for name in await self.names():
            await self.refresh(name)

    async def names(self) -> list[str]:
        """Return the names of ready learners, loaded or not."""
        async with self._store.read() as session:
            return await repository.names(session)

    async def on_changes(self, changes: Sequence[Change]) -> None:
        """Refresh the learners that have changed. A listener of `app.db.invalidation_log.ChangeWatcher`."""
        names = {change.subject for change in changes if change.kind == "learner"}
        if any(change.kind == EVERYTHING for change in changes):
            names |= {*self._states, *await self.names()}
        for name in sorted(names):
            await self.refresh(name)

    async def find(self, name: str) -> Artifact | None:
        """Return a learner that may have become ready a moment ago."""
        await self.refresh(name)
        return self._learners.artifacts.get(name)

    async def refresh(self, name: str) -> None:
        """Load or unload the learner of a name, as the database has it."""
        if name in self._learners.bundled:
            return
        state = self._states[name]
        async with state.lock:
            async with self._store.read() as session:
                found = await repository.get(session, name)
            if self._states.get(name) is not state:
                return  # It was unloaded while this waited; who asks next sees what is there now.
            if found is None or found.status != "ready" or found.row.digest is None:
                self._unload(name)
            elif state.digest != found.row.digest and not state.is_backing_off(found.row.digest):
                await self._load(name, found.row.digest, state)

    def describe(self, trained: Trained) -> Learner:
        """Return a learner as clients see it: if ready in the database, it may still be loading here, or broken."""
        row, state = trained.row, self._states.get(trained.row.name)
        made = {"dataset": row.dataset_id, "job": row.job_id}
        artifact = self._learners.artifacts.get(row.name)
        ready = trained.status == "ready"
        if ready and artifact is not None and state is not None and state.digest == row.digest:
            return self._learners.describe(artifact).model_copy(update=made)
        error = trained.error
        if ready and state is not None and state.broken is not None and state.broken[0] == row.digest:
            error = {"code": "learner_unavailable", "detail": state.broken[1]}
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

    async def _load(self, name: str, digest: str, state: _LearnerState) -> None:
        try:
            data = await files.fetch(self._store.files(repository.FOLDER), digest)
            artifact = await asyncio.to_thread(files.load_files, data, name, self._scratch, self._device)
            await self._engine.load(artifact)
        except (BlobError, ModelError, RuntimeError, ValueError, OSError) as error:
            # It cannot be read, built or run: the server goes on without it.
            log.warning("a learner could not be loaded: %s", error, extra={"digest": digest})
            state.broken = digest, f"The learner could not be loaded: {type(error).__name__}."
            state.tried = time.monotonic()
            return
        self._learners.add(artifact)
        state.digest, state.broken = digest, None

    def _unload(self, name: str) -> None:
        if name in self._learners.artifacts:
            self._learners.remove(name)
            self._engine.unload(name)
        self._states.pop(name, None)
