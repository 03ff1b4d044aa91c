"""A stream as a folder that ships with the code: `stream.json`, `shared.safetensors`, `tasks/00.safetensors` for each
stream task in the order of registration, and `README.md`, its card.

The digest names what the stream answers: its description and the digests of its parts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.continual.config import StreamConfig
from models.continual.storage import StreamStorageError, assemble, to_bytes
from models.stream_protocol import StreamVersion

STREAM_FILE, SHARED_FILE, CARD_FILE = "stream.json", "shared.safetensors", "README.md"
VERSION = 1
"""Number of the one version that ships."""


class TaskFigures(BaseModel):
    """What was measured of a stream task."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    examples: int
    """That it was learned from."""
    held_out: int = 0
    """Examples that the figures are of."""
    accuracy_registered: float | None = None
    """By the version that its registration made, with the stream task told."""
    accuracy_now: float | None = None
    inferred_now: float | None = None
    """Share of them whose stream task is inferred rightly."""
    drift: float | None = None


class Description(BaseModel):
    """`stream.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    config: StreamConfig
    labels: dict[str, tuple[str, ...]]
    """Of each stream task, in the order of registration."""
    shared: str
    """SHA-256 of the file."""
    own: dict[str, str]
    """SHA-256 of each task's file."""
    tasks: dict[str, TaskFigures] = Field(default_factory=dict)
    metrics: dict[str, Any] = Field(default_factory=dict)
    training: dict[str, Any] = Field(default_factory=dict)
    """Command, seed, wall seconds."""

    @property
    def digest(self) -> str:
        described = self.model_dump(mode="json", include={"format", "config", "shared", "own"})
        # As pairs: the order of stream tasks counts.
        described["labels"] = list(self.labels.items())
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Bundle:
    """A folder of which only the description and the card have been read."""

    name: str
    path: Path
    description: Description
    card: str

    @property
    def config(self) -> StreamConfig:
        return self.description.config

    def shared(self) -> bytes:
        """Raises `StreamStorageError`, as all that reads files."""
        return self._part(self.path / SHARED_FILE, self.description.shared)

    def own(self, task: str) -> bytes:
        """Of one of its stream tasks."""
        return self._part(
            _task_file(self.path, list(self.description.labels).index(task)), self.description.own[task]
        )

    def version(self) -> StreamVersion:
        labels = self.description.labels
        return assemble(VERSION, labels, self.shared(), {task: self.own(task) for task in labels})

    def _part(self, file: Path, expected: str) -> bytes:
        data = _read(file)
        if hashlib.sha256(data).hexdigest() != expected:
            raise StreamStorageError(
                f"{file} is not what {STREAM_FILE} says: it is damaged or of another stream"
            )
        return data


def save(
    folder: Path | str,
    config: StreamConfig,
    version: StreamVersion,
    card: str,
    *,
    tasks: Mapping[str, TaskFigures] | None = None,
    metrics: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
) -> Bundle:
    """Writes the folder, in place of what was there."""
    folder = Path(folder)
    shared, own = to_bytes(version.shared), {task: to_bytes(version.own[task]) for task in version.tasks}
    description = Description(
        config=config,
        labels=dict(version.labels),
        shared=hashlib.sha256(shared).hexdigest(),
        own={task: hashlib.sha256(data).hexdigest() for task, data in own.items()},
        tasks=dict(tasks or {}),
        metrics=dict(metrics or {}),
        training=dict(training or {}),
    )
    (folder / "tasks").mkdir(parents=True, exist_ok=True)
    for stale in (folder / "tasks").glob("*.safetensors"):
        stale.unlink()
    (folder / SHARED_FILE).write_bytes(shared)
    for index, data in enumerate(own.values()):
        _task_file(folder, index).write_bytes(data)
    (folder / CARD_FILE).write_text(card, encoding="utf-8")
    # Last: without it the folder is no stream.
    (folder / STREAM_FILE).write_text(description.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return Bundle(folder.resolve().name, folder, description, card)


def load(folder: Path | str) -> Bundle:
    """Raises `StreamStorageError` where the description is not one that this code knows."""
    folder = Path(folder)
    try:
        description = Description.model_validate_json(_read(folder / STREAM_FILE))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise StreamStorageError(f"{folder / STREAM_FILE}: field {where!r}: {first['msg']}") from error
    if description.own.keys() != description.labels.keys():
        raise StreamStorageError(f"{folder / STREAM_FILE}: there must be one part for each stream task")
    card = _read(folder / CARD_FILE).decode(errors="replace")
    return Bundle(folder.resolve().name, folder, description, card)


def _task_file(folder: Path, index: int) -> Path:
    return folder / "tasks" / f"{index:02}.safetensors"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StreamStorageError(f"{path}: {error.strerror}") from error
