"""Lists of any length, asked for page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Generic, TypeVar

from hyperserve import types
from hyperserve.aio.transport import AsyncTransport
from hyperserve.requests import PAGE, Request

Item = TypeVar("Item")


class AsyncPages(Generic[Item]):
    """The items of a list, to loop over. Nothing is asked before the loop, and each loop asks anew.

    `limit` None goes to the end. Iterating raises HyperserveError.
    """

    def __init__(
        self,
        transport: AsyncTransport,
        page: type[types.Page[Item]],
        path: str,
        limit: int | None = None,
        params: Mapping[str, Any] | None = None,
        bind: Callable[[Item], Item] | None = None,
    ) -> None:
        self._transport = transport
        self._page = page
        self._path = path
        self._limit = limit
        self._params = params or {}
        self._bind = bind

    async def __aiter__(self) -> AsyncIterator[Item]:
        given = 0
        cursor: str | None = None
        while self._limit is None or given < self._limit:
            size = PAGE if self._limit is None else min(PAGE, self._limit - given)
            params = {**self._params, "limit": size, "cursor": cursor}
            page = await self._transport.fetch(self._page, Request("GET", self._path, params))
            for item in page.items:
                yield item if self._bind is None else self._bind(item)
            given += len(page.items)
            cursor = page.next_cursor
            if cursor is None:
                return

    async def all(self) -> list[Item]:
        """Every item at once."""
        return [item async for item in self]
