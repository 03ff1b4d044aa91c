"""Connections to PostgreSQL that never wait for long: a server that is stopped or frozen counts as away in seconds."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import Any

from psycopg import AsyncConnection
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

CONNECT_SECONDS = 2
"""Time that a server may take to answer; libpq knows no less."""
PING_SECONDS = 2.0
"""Time that it may take to answer on a connection that was idle."""
STATEMENT_SECONDS = 4.0
"""Time for one statement, waiting for locks included; the server ends it then."""
ANSWER_SECONDS = 4.5
"""Time for the answer to a statement that the server should have ended."""
_OPTIONS = {
    "connect_timeout": CONNECT_SECONDS,
    # A server that is gone without a word, as behind a broken network, is noticed as soon as that.
    "tcp_user_timeout": 4_000,
    "keepalives_idle": 4,
    "keepalives_interval": 1,
    "keepalives_count": 3,
}


def connect_options(*, patient: bool) -> dict[str, Any]:
    """Return options of the driver. If `patient`, statements may take as long as they need."""
    return _OPTIONS if patient else _OPTIONS | {"async_creator_fn": _PromptConnection.connect}


def limit_statements(engine: AsyncEngine) -> None:
    """Make the server end statements that take too long, on each new connection."""

    @event.listens_for(engine.sync_engine, "connect")
    def limit(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute(f"SET statement_timeout = {STATEMENT_SECONDS * 1e3:.0f}")
        cursor.close()
        connection.commit()


class _PromptConnection(AsyncConnection[Any]):
    """A connection that is cut if the server does not answer in time; the statement then fails as if it were away."""

    async def wait(self, *arguments: Any, **options: Any) -> Any:
        # SQLAlchemy tests an idle connection outside of a transaction, and does nothing else there.
        seconds = PING_SECONDS if self.autocommit else ANSWER_SECONDS
        deadline = asyncio.get_running_loop().call_later(seconds, self._cut)
        try:
            return await super().wait(*arguments, **options)
        finally:
            deadline.cancel()

    def _cut(self) -> None:
        # Not cancelled: the driver would send the cancellation to the server, and wait for that.
        if self.closed:
            return
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(self.fileno())) as same:
            same.shutdown(socket.SHUT_RDWR)
