"""Streams that ship with the code: everybody may ask them, nobody may change them, and copies are one's own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from app.http.fields import SLUG
from app.http.problems import ProblemError, fail
from app.streams.repository import Part, Stored
from app.streams.versions import StreamHead, config_digest
from models.continual.bundle import STREAM_FILE, VERSION, Bundle, load
from models.continual.storage import StreamStorageError

TENANT = ""
"""Of no client."""


class BundledStreams:
    """All of one folder, by name. Of their tensors nothing is read before somebody asks."""

    def __init__(self, bundles: Mapping[str, Bundle]) -> None:
        self.bundles = dict(sorted(bundles.items()))
        self._heads = {name: _head(bundle) for name, bundle in self.bundles.items()}

    @classmethod
    def load(cls, folder: Path) -> BundledStreams:
        """Every folder in it with a description is a stream. Raises `StreamStorageError`."""
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

    def head(self, name: str) -> StreamHead | None:
        return self._heads.get(name)

    def refuse(self, name: str) -> None:
        """Raises `ProblemError` 409 where the name is that of one of them: it is not to change."""
        if name in self.bundles:
            raise read_only(name)


def read_only(name: str) -> ProblemError:
    copy = f'POST /v1/streams {{"name": "my-{name}", "from": "{name}"}} makes a copy that is yours.'
    return fail("stream_bundled", f"The stream {name} came with the server and is not to change; {copy}")


def _head(bundle: Bundle) -> StreamHead:
    description = bundle.description
    parts = [Part("", task, labels, description.own[task]) for task, labels in description.labels.items()]
    # The digest in place of an id: another release may bring another stream of the name.
    id = f"bundled-{description.digest[:32]}"
    stored = Stored(id, TENANT, VERSION, description.shared, tuple(parts))
    return StreamHead(TENANT, bundle.name, stored, bundle.config, config_digest(bundle.config), bundle=bundle)
