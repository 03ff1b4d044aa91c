"""Living tasks."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.app.tasks.living import Living, living


@pytest.fixture
def pets(client: httpx.Client) -> Iterator[Living]:
    """A task of two classes with one example each."""
    made = living(client)
    yield made
    client.delete(made.path)
