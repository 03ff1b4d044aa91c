"""TaskClient tasks."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.app.tasks.task_client import TaskClient, new_task


@pytest.fixture
def pets(client: httpx.Client) -> Iterator[TaskClient]:
    """A task of two classes with one example each."""
    made = new_task(client)
    yield made
    client.delete(made.path)
