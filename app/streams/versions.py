"""A version of a stream as predictions need it, and how it is found."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from app.core.version_cache import OWN_WEIGHT
from app.db.tables import StreamRow
from app.db.tenancy import TenantSession
from app.http.fields import SLUG
from app.http.problems import ProblemError, fail
from app.streams import repository
from app.streams.config import config_digest
from app.streams.repository import StoredStreamVersion, StreamTaskRecord
from models.continual.bundle import Bundle
from models.continual.stream_config import StreamConfig


@dataclass(frozen=True)
class StreamVersionRef:
    """A version of a stream, with the revision of the stream at which it was read."""

    tenant: str
    name: str
    stored: StoredStreamVersion
    config: StreamConfig
    digest: str
    """Digest of the config, which determines the learner."""
    revision: int = 1
    """Counts the changes of the stream."""
    bundle: Bundle | None = None
    """The folder of a bundled stream; None if the version is in the blob store."""

    @property
    def subject(self) -> str:
        return subject(self.tenant, self.name)

    @property
    def number(self) -> int:
        return self.stored.number

    @property
    def labels(self) -> Mapping[str, tuple[str, ...]]:
        """Labels by stream task, in the order of registration."""
        return self.stored.labels

    @property
    def weight(self) -> int:
        return OWN_WEIGHT + sum(OWN_WEIGHT + len(part.labels) for part in self.stored.parts)

    @property
    def gate_key(self) -> str:
        return key_prefix(self.stored.id)

    def network_key(self, task: str) -> str:
        """Differs from the key of the gate, because no stream task has an empty name."""
        return key_prefix(self.stored.id) + task


def subject(tenant: str, name: str) -> str:
    """Return the key of a stream in the version cache."""
    return f"{tenant}/{name}"


def key_prefix(version: str) -> str:
    """Return the beginning of every key under which weights of a version (given by its id) are cached."""
    return f"{version}:"


async def load_version(session: TenantSession, name: str, number: int | None) -> StreamVersionRef:
    """Load a version, by default the current one. Raises `ProblemError`: 404, or 409 if the stream has none."""
    stream = await load_stream(session, name)
    stored = await repository.version(session, stream, number)
    if stored is None:
        raise stream_empty() if number is None else version_not_found()
    config = StreamConfig.model_validate(stream.config)
    return StreamVersionRef(session.tenant, name, stored, config, config_digest(config), stream.revision)


async def load_stream(session: TenantSession, name: str, *, lock: bool = False) -> StreamRow:
    """Raises `ProblemError` 404."""
    # PostgreSQL would refuse some texts.
    row = await repository.get(session, name, lock=lock) if re.fullmatch(SLUG, name) else None
    if row is None:
        raise fail("stream_not_found", "There is no such stream.")
    return row


async def load_tasks_named(session: TenantSession, row: StreamRow, task: str) -> list[StreamTaskRecord]:
    """Load the stream tasks of a name, the one that the name means first. Raises `ProblemError` 404."""
    tasks = await repository.tasks_named(session, row.id, task) if re.fullmatch(SLUG, task) else []
    if not tasks:
        raise task_not_found()
    return tasks


async def missing_task_problem(session: TenantSession, version: StreamVersionRef, task: str) -> ProblemError:
    """Return the reason why a version does not hold a stream task."""
    stream = await repository.get(session, version.name)
    records = [] if stream is None else await repository.tasks_named(session, stream.id, task)
    states = [record.state for record in records]
    if not states:
        return task_not_in_version(version)
    if "registering" in states:
        return fail("stream_task_not_ready", f"The stream task {task} is still being registered.", "/task")
    if states[0] in ("forgotten", "forgetting"):
        return fail("stream_task_forgotten", f"The stream task {task} was forgotten.", "/task")
    detail = f"Version {version.number} does not hold the stream task {task}."
    return fail("stream_task_not_found", detail, "/task")


def task_not_in_version(version: StreamVersionRef) -> ProblemError:
    known = ", ".join(list(version.labels)[:20])
    detail = f"There is no such stream task; version {version.number} holds {known}."
    return fail("stream_task_not_found", detail, "/task")


def task_not_found() -> ProblemError:
    return fail("stream_task_not_found", "The stream has no such stream task.")


def version_not_found() -> ProblemError:
    return fail("stream_version_not_found", "The stream has no such version.", "/version")


def version_deleted() -> ProblemError:
    return fail("stream_version_not_found", "The version of the stream has been deleted.", "/version")


def stream_empty() -> ProblemError:
    return fail("stream_empty", "The stream has no version yet: no stream task has been registered.")
