"""Files of datasets and learners that no row names any more."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from app.core.errors import UnavailableError
from app.db.locks import FILES, lock
from app.db.tenancy import Store, TenantSession

log = logging.getLogger("hyperserve")


async def drop(
    store: Store,
    refers: Callable[[TenantSession], Awaitable[bool]],
    delete: Callable[[], Awaitable[None]],
) -> None:
    """Deletes what no row refers to, while none can begin to. What cannot be deleted now is left to the clearing
    away that comes every hour: the rows are gone already, and whoever deleted them need not do so again."""
    try:
        async with store.write() as session:
            await lock(session, FILES)
            if not await refers(session):
                await delete()
    except UnavailableError as error:
        log.warning("a file that nothing names stays for now: %s", error)
