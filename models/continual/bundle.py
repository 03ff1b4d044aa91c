"""A bundled stream, a folder that ships with the code: `stream.json`, `shared.safetensors`, one `tasks/00.safetensors`
for each stream task in the order of registration, and `README.md`, its card.

The digest covers everything that determines the answers: the description and the digests of the parts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.continual.storage import StreamStorageError, assemble, to_bytes
from models.continual.stream_config import StreamConfig
from models.stream_protocol import StreamVersion

STREAM_FILE, SHARED_FILE, CARD_FILE = "stream.json", "shared.safetensors", "README.md"
VERSION = 1
"""The number of the only version in a bundle."""


class TaskFigures(BaseModel):
    """Figures measured on one stream task."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    examples: int
    """Number of examples the task was trained on."""
    held_out: int = 0
    """Number of examples the figures were measured on."""
    accuracy_registered: float | None = None
    """Accuracy of the version made by its registration, given the stream task."""
    accuracy_now: float | None = None
    inferred_now: float | None = None
    """Share of the held-out examples whose stream task is inferred correctly."""
    drift: float | None = None


class Description(BaseModel):
    """The contents of `stream.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    config: StreamConfig
    labels: dict[str, tuple[str, ...]]
    """Class labels of each stream task, in the order of registration."""
    shared: str
    """SHA-256 of `shared.safetensors`."""
    own: dict[str, str]
    """SHA-256 of the file of each task."""
    tasks: dict[str, TaskFigures] = Field(default_factory=dict)
    metrics: dict[str, Any] = Field(default_factory=dict)
    training: dict[str, Any] = Field(default_factory=dict)
    """Command, seed, wall seconds."""

    @property
    def digest(self) -> str:
        described = self.model_dump(mode="json", include={"format", "config", "shared", "own"})
        # Pairs, because the order of stream tasks matters.
        described["labels"] = list(self.labels.items())
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Bundle:
    """A bundled stream of which only the description and the card have been read."""

    name: str
    path: Path
    description: Description
    card: str

    @property
    def config(self) -> StreamConfig:
        return self.description.config

    def shared(self) -> bytes:
        """Return the bytes of the shared tensors. Raise `StreamStorageError` if they are missing or damaged."""
        return self._part(self.path / SHARED_FILE, self.description.shared)

    def task_part(self, task: str) -> bytes:
        """Return the bytes of one stream task's tensors. Raise `StreamStorageError` if they are missing or damaged."""
        return self._part(
            _task_file(self.path, list(self.description.labels).index(task)), self.description.own[task]
        )

    def version(self) -> StreamVersion:
        labels = self.description.labels
        return assemble(VERSION, labels, self.shared(), {task: self.task_part(task) for task in labels})

    def _part(self, file: Path, expected: str) -> bytes:
        data = _read(file)
        if hashlib.sha256(data).hexdigest() != expected:
            raise StreamStorageError(
                f"{file} does not match its digest in {STREAM_FILE}: it is damaged or belongs to another stream"
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
    """Write the folder, replacing its previous contents."""
    folder = Path(folder)
    shared = to_bytes(version.shared)
    parts = {task: to_bytes(version.per_task[task]) for task in version.tasks}
    description = Description(
        config=config,
        labels=dict(version.labels),
        shared=hashlib.sha256(shared).hexdigest(),
        own={task: hashlib.sha256(data).hexdigest() for task, data in parts.items()},
        tasks=dict(tasks or {}),
        metrics=dict(metrics or {}),
        training=dict(training or {}),
    )
    (folder / "tasks").mkdir(parents=True, exist_ok=True)
    for stale in (folder / "tasks").glob("*.safetensors"):
        stale.unlink()
    (folder / SHARED_FILE).write_bytes(shared)
    for index, data in enumerate(parts.values()):
        _task_file(folder, index).write_bytes(data)
    (folder / CARD_FILE).write_text(card, encoding="utf-8")
    # Last, because a folder without it does not count as a stream.
    (folder / STREAM_FILE).write_text(description.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return Bundle(folder.resolve().name, folder, description, card)


def load(folder: Path | str) -> Bundle:
    """Load the description and the card. Raise `StreamStorageError` if this code does not know the description."""
    folder = Path(folder)
    try:
        description = Description.model_validate_json(_read(folder / STREAM_FILE))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise StreamStorageError(f"{folder / STREAM_FILE}: field {where!r}: {first['msg']}") from error
    if description.own.keys() != description.labels.keys():
        raise StreamStorageError(
            f"{folder / STREAM_FILE}: there must be exactly one part for each stream task"
        )
    card = _read(folder / CARD_FILE).decode(errors="replace")
    return Bundle(folder.resolve().name, folder, description, card)


def _task_file(folder: Path, index: int) -> Path:
    return folder / "tasks" / f"{index:02}.safetensors"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StreamStorageError(f"{path}: {error.strerror}") from error
