"""Migration of tasks to a learner that a release has replaced, as new versions of the same examples.

While processes of two releases run side by side, each answers by the version of its own learner. Each such version
is made once, and only its making changes what is current, so the two releases do not undo each other's work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from app.core.ids import new_id
from app.db.invalidation_log import record
from app.db.tables import TaskRow, VersionRow
from app.db.tenancy import Store, TenantSession
from app.tasks import repository
from app.tasks.cache import TaskVersionRef, task_changed
from app.tasks.repository import task_not_found
from app.tasks.resources import TaskResources
from app.tasks.weights import VersionWeights
from models.artifact import Artifact


@dataclass(frozen=True)
class LearnerMigration:
    """Finds or makes the version of the learner that is served."""

    resources: TaskResources
    store: Store

    async def migrate(self, ref: TaskVersionRef, artifact: Artifact) -> TaskVersionRef:
        """Return the version of the same examples under the learner.

        Raises `ProblemError`, and what `VersionWeights.adapt` raises.
        """
        if ref.learner_digest == artifact.digest:
            return ref
        running, key = self.resources.migrations, (ref.version, artifact.digest)
        migration = running.get(key)
        if migration is None:
            migration = running[key] = asyncio.create_task(self._migrate(ref, artifact))
            migration.add_done_callback(lambda _: running.pop(key, None))
        # Shielded: others wait for it too.
        return await asyncio.shield(migration)

    async def _migrate(self, ref: TaskVersionRef, artifact: Artifact) -> TaskVersionRef:
        async with self.store.read() as session:
            task, old = await _version(session, ref)
            twin = await repository.find_twin(session, old, artifact)
        if twin is not None:
            return _standing_for(ref, task, twin)
        weights = VersionWeights(self.resources, self.store)
        adapted, shape = await weights.adapt(ref, artifact)
        migrated, made = await self._write(ref, artifact, shape)
        if made:
            # The weights are not admitted here: a deletion that has just evicted them would be undone.
            await weights.cache_features(migrated, adapted.features)
            weights.share(migrated, adapted.weights)
        return migrated

    async def _write(
        self, ref: TaskVersionRef, artifact: Artifact, shape: Sequence[int]
    ) -> tuple[TaskVersionRef, bool]:
        """Return the version, and whether it was made here: another process may have been faster."""
        async with self.store.write() as session:
            task = await repository.lock_task(session, ref.task)
            if task is None:
                raise task_not_found()
            _, old = await _version(session, ref)
            if twin := await repository.find_twin(session, old, artifact):
                return _standing_for(ref, task, twin), False
            version = VersionRow(
                id=new_id("ver"),
                task_id=ref.task,
                number=await repository.next_number(session, task),
                learner=artifact.name,
                learner_digest=artifact.digest,
                seed=old.seed,
                classes=old.classes,
                shots=old.shots,
                shape=list(shape),
                target=old.target,
                parent=old.number,
                origin="renewed",
            )
            await repository.add_version(session, version, old)
            current = await repository.get_version(session, ref.task, task.current)
            assert current is not None
            # Somebody may have made another support set current meanwhile: that stays.
            same = current[1].shots == old.shots
            if same and await repository.same_examples(session, current[1].id, old.id):
                task.current, task.revision = version.number, task.revision + 1
                await session.flush()
                await record(session, task_changed(task))
                return TaskVersionRef.of(task, version), True
        return _standing_for(ref, task, version), True


async def _version(session: TenantSession, ref: TaskVersionRef) -> tuple[TaskRow, VersionRow]:
    found = await repository.get_version(session, ref.task, ref.number)
    if found is None:
        raise task_not_found()
    return found


def _standing_for(ref: TaskVersionRef, task: TaskRow, version: VersionRow) -> TaskVersionRef:
    """Return a version in place of another one. What is current is known as of when `ref` was read, not later."""
    return replace(TaskVersionRef.of(task, version), revision=ref.revision, instead_of=ref.number)
