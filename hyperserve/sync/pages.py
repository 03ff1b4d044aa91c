# Generated from hyperserve/aio/pages.py by `python -m tools.make_sync`: change that file, not this one.
"""Lazy iteration over paginated lists."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from hyperserve import types
from hyperserve.requests import PAGE_SIZE, Request
from hyperserve.sync.transport import Transport

Item = TypeVar("Item")


class Pages(Generic[Item]):
    """Iterable over a list of the server; each loop fetches the pages anew, as it goes on.

    limit: the most items to yield, all if None. Iterating raises HyperserveError.
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
        yielded = 0
        cursor: str | None = None
        while self._limit is None or yielded < self._limit:
            size = PAGE_SIZE if self._limit is None else min(PAGE_SIZE, self._limit - yielded)
            params = {**self._params, "limit": size, "cursor": cursor}
            page = self._transport.fetch(self._page, Request("GET", self._path, params))
            for item in page.items:
                yield item if self._bind is None else self._bind(item)
            yielded += len(page.items)
            cursor = page.next_cursor
            if cursor is None:
                return

    def all(self) -> list[Item]:
        """Return all items as a list."""
        return list(self)
