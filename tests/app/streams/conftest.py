"""Streams on the shared server, where no worker runs: jobs wait in the queue."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.app.streams.stream_requests import create, uploaded, vectors


@pytest.fixture
def clean(client: httpx.Client) -> Iterator[None]:
    """Delete what the test has made."""
    yield
    for stream in client.get("/v1/streams").json()["items"]:
        if not stream["bundled"]:
            assert client.delete(f"/v1/streams/{stream['name']}").status_code == 204
    for dataset in client.get("/v1/datasets").json()["items"]:
        assert client.delete(f"/v1/datasets/{dataset['id']}").status_code == 204


@pytest.fixture
def points(client: httpx.Client, clean: None) -> str:
    """A stream of vectors in cl3, without any stream task."""
    assert create(client).status_code == 201
    return "points"


@pytest.fixture
def dataset(client: httpx.Client, clean: None) -> str:
    """A dataset of the classes a, b and c."""
    return uploaded(client, vectors("a", "b", "c"))
