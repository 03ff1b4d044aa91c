"""What a warm predict must know of a stream."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from app.streams.repository import Stored
from app.tasks.heads import OWN_WEIGHT, Memory
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
