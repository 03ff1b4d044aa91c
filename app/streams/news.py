"""What processes tell each other of streams."""

from __future__ import annotations

from collections.abc import Iterable

from app.db.changes import Change
from app.db.tables import StreamRow

KIND = "stream"


def changed(stream: StreamRow, purged: Iterable[str] = ()) -> Change:
    """Another version is current, or stream tasks stand otherwise: its revision, which was raised in the same
    transaction, then the ids of versions that are gone for good."""
    return Change(stream.tenant, KIND, stream.name, (str(stream.revision), *purged))


def deleted(stream: StreamRow, purged: Iterable[str]) -> Change:
    """The stream is gone, with its versions of these ids. A new one of its name has revisions of its own."""
    return Change(stream.tenant, KIND, stream.name, ("deleted", *purged))
