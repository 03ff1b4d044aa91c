"""Streams that ship with the server: every tenant may query and copy them, nobody may change them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from app.http.fields import SLUG
from app.http.problems import ProblemError, fail
from app.streams.config import config_digest
from app.streams.repository import StoredStreamVersion, StreamPart
from app.streams.versions import StreamVersionRef
from hyperserve.stream_types import Stream, StreamTask, StreamVersion
from models.continual.bundle import STREAM_FILE, VERSION, Bundle, TaskFigures, load
from models.continual.storage import StreamStorageError

TENANT = ""
"""Not the tenant of any client."""
CONFIG_FIELDS = ("method", "scenario", "hparams", "input", "encoder", "encoder_digest", "shape", "seed")
"""Fields of a stream's config that clients see."""


class BundledStreams:
    """The streams of one folder, by name. Their tensors are read when a query needs them."""

    def __init__(self, bundles: Mapping[str, Bundle]) -> None:
        self.bundles = dict(sorted(bundles.items()))
        self._versions = {name: _version_ref(bundle) for name, bundle in self.bundles.items()}

    @classmethod
    def load(cls, folder: Path) -> BundledStreams:
        """Load every folder in it that has a description. Raises `StreamStorageError`."""
        found = {}
        for path in (file.parent for file in sorted(folder.glob(f"*/{STREAM_FILE}"))):
            if re.fullmatch(SLUG, path.name) is None:
                raise StreamStorageError(f"{path}: the name of a stream's folder must match {SLUG}")
            found[path.name] = load(path)
        return cls(found)

    def __contains__(self, name: str) -> bool:
        return name in self.bundles

    def get(self, name: str) -> Bundle | None:
        return self.bundles.get(name)

    def version(self, name: str) -> StreamVersionRef | None:
        """Return the only version of a bundled stream; None if there is no bundled stream of this name."""
        return self._versions.get(name)

    def check_changeable(self, name: str) -> None:
        """Raises `ProblemError` 409 if the name is that of a bundled stream."""
        if name in self.bundles:
            raise _read_only(name)


def bundled_stream(bundle: Bundle) -> Stream:
    config = bundle.config.model_dump(mode="json")
    return Stream(
        name=bundle.name,
        version=VERSION,
        tasks=len(bundle.description.labels),
        alarm=None,
        bundled=True,
        created_at=None,
        **{name: config[name] for name in CONFIG_FIELDS},
    )


def bundled_tasks(bundle: Bundle) -> list[StreamTask]:
    return [
        _task(name, labels, bundle.description.tasks.get(name, TaskFigures(examples=0)))
        for name, labels in bundle.description.labels.items()
    ]


def bundled_version(bundle: Bundle) -> StreamVersion:
    return StreamVersion(
        number=VERSION,
        parent=None,
        origin="registered",
        task=None,
        current=True,
        tasks=list(bundle.description.labels),
        job=None,
        created_at=None,
    )


def _read_only(name: str) -> ProblemError:
    copy = f'POST /v1/streams {{"name": "my-{name}", "from": "{name}"}} makes a copy that you can change.'
    return fail("stream_bundled", f"The stream {name} ships with the server and cannot be changed; {copy}")


def _version_ref(bundle: Bundle) -> StreamVersionRef:
    description = bundle.description
    parts = [
        StreamPart("", task, labels, description.own[task]) for task, labels in description.labels.items()
    ]
    # A digest in place of an id, because another release may ship another stream of this name.
    id = f"bundled-{description.digest[:32]}"
    stored = StoredStreamVersion(id, VERSION, description.shared, tuple(parts))
    digest = config_digest(bundle.config)
    return StreamVersionRef(TENANT, bundle.name, stored, bundle.config, digest, bundle=bundle)


def _task(name: str, labels: tuple[str, ...], figures: TaskFigures) -> StreamTask:
    return StreamTask(
        name=name,
        labels=list(labels),
        state="ready",
        alarm=False,
        job=None,
        dataset=None,
        created_at=None,
        registered_at=None,
        forgotten_at=None,
        **figures.model_dump(),
    )
