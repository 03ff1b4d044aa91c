"""Folders of bundled streams."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.streams.bundled import BundledStreams
from models.continual import bundle
from models.continual.storage import StreamStorageError
from tests.app.streams.bundles import bundled


def test_a_bundle_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    saved = bundled(tmp_path / "blobs")
    again = bundle.load(tmp_path / "blobs")
    assert again.description == saved.description
    assert again.description.digest == saved.description.digest
    (tmp_path / "blobs" / "stream.json").write_text("{}")
    with pytest.raises(StreamStorageError, match="field"):
        bundle.load(tmp_path / "blobs")
    (tmp_path / "blobs").rename(tmp_path / "No_slug")
    with pytest.raises(StreamStorageError, match="must match"):
        BundledStreams.load(tmp_path)
