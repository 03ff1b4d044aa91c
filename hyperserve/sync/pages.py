# Made from hyperserve/aio/pages.py by `python -m tools.make_sync`: change that file, not this one.
"""Lists of any length, asked for page by page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from hyperserve import types
from hyperserve.requests import PAGE, Request
from hyperserve.sync.transport import Transport

Item = TypeVar("Item")


class Pages(Generic[Item]):
    """The items of a list, to loop over. Nothing is asked before the loop, and each loop asks anew.

    `limit` None goes to the end. Iterating raises HyperserveError.
    """

    def __init__(
        self,
        transport: Transport,
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

    def __iter__(self) -> Iterator[Item]:
        given = 0
        cursor: str | None = None
        while self._limit is None or given < self._limit:
            size = PAGE if self._limit is None else min(PAGE, self._limit - given)
            params = {**self._params, "limit": size, "cursor": cursor}
            page = self._transport.fetch(self._page, Request("GET", self._path, params))
            for item in page.items:
                yield item if self._bind is None else self._bind(item)
            given += len(page.items)
            cursor = page.next_cursor
            if cursor is None:
                return

    def all(self) -> list[Item]:
        """Every item at once."""
        return list(self)
