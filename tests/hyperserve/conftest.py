"""Fixtures of the application's real server, and a client for it."""

from collections.abc import Iterator

import pytest

from hyperserve import Client
from tests.app.conftest import own_server, server, streams, zoo
from tests.app.server import Server

__all__ = ["own_server", "server", "streams", "zoo"]


@pytest.fixture
def live(server: Server) -> Iterator[Client]:
    """Yield a client of the real server."""
    with Client(server.url, max_retries=0) as client:
        yield client
