"""A release replaced a learner: its tasks go on under the new one, as new versions of the same examples.

While processes of two releases run side by side each answers by the version of its own learner. Each such
version is made once, and only the making of one changes what is current: nobody takes turns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from app.core.ids import new_id
from app.db.engine import Database
from app.db.invalidation_log import record
from app.db.tables import TaskRow, VersionRow
from app.tasks import repository
from app.tasks.cache import Head, changed
from app.tasks.weights import Restorer, head_of, not_found
from models.artifact import Artifact


class Renewer:
    """Finds or makes the version of a learner that is served."""

    def __init__(self, database: Database, restorer: Restorer) -> None:
        self._database = database
        self._restorer = restorer
        self._flights: dict[tuple[str, str], asyncio.Task[Head]] = {}

    async def renew(self, head: Head, artifact: Artifact) -> Head:
        """The same examples under the learner. Raises `ProblemError`, and what `Restorer.adapt` raises."""
        if head.learner_digest == artifact.digest:
            return head
        key = head.version, artifact.digest
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = asyncio.create_task(self._renew(head, artifact))
            flight.add_done_callback(lambda _: self._flights.pop(key, None))
        # Shielded: others wait for it too.
        return await asyncio.shield(flight)

    async def _renew(self, head: Head, artifact: Artifact) -> Head:
        async with self._database.read() as session:
            found = await repository.get_version(session, head.tenant, head.task, head.number)
            if found is None:
                raise not_found()
            task, old = found
            twin = await repository.find_twin(session, old, artifact)
        if twin is not None:
            return _standing_for(head, task, twin)
        adapted, shape = await self._restorer.adapt(head, artifact)
        renewed, made = await self._stored(head, artifact, shape)
        if made:
            # The weights are not admitted here: a deletion that has just evicted them would be undone.
            await self._restorer.keep_features_of(renewed, adapted.features)
            self._restorer.share(renewed, adapted.weights)
        return renewed

    async def _stored(self, head: Head, artifact: Artifact, shape: Sequence[int]) -> tuple[Head, bool]:
        """The version, and whether it was made here: another process may have been faster."""
        async with self._database.write() as session:
            task = await repository.lock_task(session, head.tenant, head.task)
            found = await repository.get_version(session, head.tenant, head.task, head.number)
            if task is None or found is None:
                raise not_found()
            old = found[1]
            if twin := await repository.find_twin(session, old, artifact):
                return _standing_for(head, task, twin), False
            version = VersionRow(
                id=new_id("ver"),
                tenant=head.tenant,
                task_id=head.task,
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
            current = await repository.get_version(session, head.tenant, head.task, task.current)
            assert current is not None
            # Somebody may have made another support set current meanwhile: that stays.
            same = current[1].shots == old.shots
            if same and await repository.same_examples(session, current[1].id, old.id):
                task.current, task.revision = version.number, task.revision + 1
                await session.flush()
                await record(session, changed(task))
                return head_of(task, version), True
        return _standing_for(head, task, version), True


def _standing_for(head: Head, task: TaskRow, version: VersionRow) -> Head:
    """No more is known of what is current than when `head` was read."""
    return replace(head_of(task, version), revision=head.revision, instead_of=head.number)
