"""What a warm predict must know of a stream."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import exists, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.version_cache import OWN_WEIGHT, Memory
from app.db.tables import StreamRow, StreamVersionRow
from app.http.fields import SLUG
from app.http.problems import ProblemError, fail
from app.streams import repository
from app.streams.repository import Stored
from models.continual.bundle import Bundle
from models.continual.config import StreamConfig


@dataclass(frozen=True)
class StreamHead:
    """A version of a stream, and where the stream stood when it was read."""

    tenant: str
    name: str
    stored: Stored
    config: StreamConfig
    digest: str
    """Of the config: what its learner follows from."""
    revision: int = 1
    """Counts the changes of the stream."""
    bundle: Bundle | None = None
    """The folder that it is read from; None where it is stored."""

    @property
    def subject(self) -> str:
        return subject(self.tenant, self.name)

    @property
    def number(self) -> int:
        return self.stored.number

    @property
    def labels(self) -> Mapping[str, tuple[str, ...]]:
        """Of each stream task, in the order of registration."""
        return self.stored.labels

    @property
    def weight(self) -> int:
        return OWN_WEIGHT + sum(OWN_WEIGHT + len(part.labels) for part in self.stored.parts)

    @property
    def gate_key(self) -> str:
        return key_prefix(self.stored.id)

    def network_key(self, task: str) -> str:
        """No name of a stream task is empty, so it is never that of the gate."""
        return key_prefix(self.stored.id) + task


class StreamHeads(Memory[StreamHead]):
    """By tenant and name of the stream."""


def subject(tenant: str, name: str) -> str:
    return f"{tenant}/{name}"


def key_prefix(version: str) -> str:
    """Of all keys that hold something of a version, by its id."""
    return f"{version}:"


def config_digest(config: StreamConfig) -> str:
    """SHA-256 in hex."""
    described = json.dumps(config.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(described.encode()).hexdigest()


async def head(session: AsyncSession, tenant: str, name: str, number: int | None) -> StreamHead:
    """A version, the current one without a number. Raises `ProblemError`: 404, 409 where there is none yet."""
    stream = await repository.get(session, tenant, name) if re.fullmatch(SLUG, name) else None
    if stream is None:
        raise not_found()
    stored = await repository.version(session, stream, number)
    if stored is None and number is None:
        raise empty()
    if stored is None:
        raise no_version()
    config = StreamConfig.model_validate(stream.config)
    return StreamHead(tenant, name, stored, config, config_digest(config), stream.revision)


async def is_stored(session: AsyncSession, version: str) -> bool:
    """Whether a version is there, by its id."""
    return bool(await session.scalar(select(exists().where(StreamVersionRow.id == version))))


async def why_not(session: AsyncSession, head: StreamHead, task: str) -> ProblemError:
    """The problem of a stream task that the version does not hold."""
    stream: StreamRow | None = await repository.get(session, head.tenant, head.name)
    found = [] if stream is None else await repository.named(session, stream.id, task)
    states = [one.state for one in found]
    if not found:
        return no_task(head)
    if "registering" in states:
        return fail("stream_task_not_ready", f"The stream task {task} is still being registered.", "/task")
    if states[0] in ("forgotten", "forgetting"):
        return fail("stream_task_forgotten", f"The stream task {task} was forgotten.", "/task")
    return fail(
        "stream_task_not_found", f"Version {head.number} does not hold the stream task {task}.", "/task"
    )


def no_task(head: StreamHead) -> ProblemError:
    known = ", ".join(list(head.labels)[:20])
    return fail(
        "stream_task_not_found",
        f"There is no such stream task; version {head.number} holds {known}.",
        "/task",
    )


def not_found() -> ProblemError:
    return fail("stream_not_found", "There is no such stream.")


def no_version() -> ProblemError:
    return fail("stream_version_not_found", "The stream has no such version.", "/version")


def empty() -> ProblemError:
    return fail("stream_empty", "The stream has no version yet: no stream task has been registered.")
