"""Idempotency-Key: a creation that is sent again answers as it did before, and nothing is made twice.

A request with a key claims it under a lease of the database's clock. Its response is stored by the very
transaction that makes its effect, so either both are there or neither. A claim that failed is given back, one
whose process was killed lapses, and one that was taken over meanwhile cannot publish any more.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Annotated

from fastapi import Header, Request, Response
from pydantic import BaseModel
from sqlalchemy import ColumnElement, and_, delete, null, or_, select, update

from app.core.errors import AppError
from app.core.ids import new_id
from app.db.base import now
from app.db.clock import now_ms
from app.db.errors import DatabaseError
from app.db.tables import IdempotencyRow
from app.db.tenancy import Store, TenantSession
from app.http.body import Body
from app.http.problems import ProblemError, fail

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
KEPT_SECONDS = 24 * 3600
"""Time for which a response is repeated."""
LEASE_SECONDS = 20.0
"""Silence after which the key of a killed process is free; a request that still runs renews its claim."""
_KEY = r"^[ -~]{1,255}$"
_LARGE = 1 << 20
"""Bytes from which on hashing is worth a thread."""
_ROUTE = 255

log = logging.getLogger("hyperserve")


class ReplayError(AppError):
    """Ends a request whose key has been answered before; becomes the stored response."""

    def __init__(self, response: Response) -> None:
        super().__init__(REPLAYED)
        self.response = response


IdempotencyKey = Annotated[
    str | None,
    Header(
        alias=HEADER,
        description="Makes the request safe to send again: within 24 hours the same key with the same "
        f"request is answered as before, with `{REPLAYED}: true`, and nothing is made twice.",
        json_schema_extra={"minLength": 1, "maxLength": 255, "pattern": _KEY},
    ),
]
"""Documents the header; `Idempotency.claim` reads and checks it."""


@dataclass(eq=False)
class Claim:
    """A request's turn at its key. Without a key everything is allowed and nothing kept."""

    id: str | None = None
    token: str = ""
    kept: bool = False

    async def keep(
        self,
        session: TenantSession,
        status: int,
        answer: BaseModel,
        headers: Mapping[str, str] | None = None,
        subject: str | None = None,
    ) -> None:
        """Stores the response, in the transaction that makes the effect. `subject` is what `forget` is to name.

        Raises `ProblemError` 409 where another request has taken the key over: the effect must not commit.
        """
        if self.id is None:
            return
        values = {
            "status": status,
            "subject": subject,
            "headers": dict(headers or {}) | {"Content-Type": "application/json"},
            "response": answer.model_dump_json().encode(),
        }
        row = IdempotencyRow
        stored = await session.execute(update(row).where(*self.mine).values(values).returning(row.id))
        if stored.one_or_none() is None:
            raise _in_flight()
        self.kept = True

    @property
    def mine(self) -> tuple[ColumnElement[bool], ...]:
        row = IdempotencyRow
        return row.id == self.id, row.token == self.token, row.status.is_(None)


UNCLAIMED = Claim()
"""The claim of a caller without a key."""


async def forget(session: TenantSession, subject: str) -> None:
    """Drop what responses say of a subject, in the transaction that deletes it. Their keys stay answered."""
    row = IdempotencyRow
    gone = {"headers": null(), "response": null()}
    await session.execute(update(row).where(row.subject == subject).values(gone))


class Idempotency:
    """Claims a tenant's keys in the database, for all processes that share it."""

    def __init__(self, store: Store, lease_seconds: float = LEASE_SECONDS) -> None:
        self._store = store
        self._lease = lease_seconds

    @asynccontextmanager
    async def claim(self, request: Request, body: Body | str = "") -> AsyncIterator[Claim]:
        """The request's turn. `body` is the body, or the digest of one that the route has read itself.

        Raises `ReplayError` where the key is answered, `ProblemError` 409 where its request is in flight, 410 where
        what it made is deleted, and 422 where the key is not one, or came with another request.
        """
        key = _key(request)
        if key is None:
            yield Claim()
            return
        route = f"{request.method} {request.scope['raw_path'].decode('ascii', 'backslashreplace')}"
        claim = await self._take(key, route[:_ROUTE], await _digest(request, route, body))
        done = asyncio.Event()
        renewing = asyncio.create_task(self._renew(claim, done))
        failed = True
        try:
            yield claim
            failed = False
        finally:
            done.set()
            await renewing
            if failed or not claim.kept:
                await self._release(claim)

    async def _take(self, key: str, route: str, digest: str) -> Claim:
        claim = Claim(new_id("idem"), new_id("turn"))
        async with self._store.write() as session:
            found = await _insert(session, claim, key, route, digest, round(self._lease * 1e3))
            if found is None:
                return claim
        if (found.route, found.body) != (route, digest):
            raise fail("idempotency_mismatch", "The key came with another request before.", f"/{HEADER}")
        if found.status is None:
            raise _in_flight()
        if found.response is None:
            raise fail("idempotency_deleted", "What the request made has been deleted since.")
        raise ReplayError(Response(found.response, found.status, {**(found.headers or {}), REPLAYED: "true"}))

    async def _renew(self, claim: Claim, done: asyncio.Event) -> None:
        """Renew until done. A lease that could not be renewed expires, and `keep` raises."""
        while not done.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(done.wait(), self._lease / 4)
                return
            until = now_ms() + round(self._lease * 1e3)
            with suppress(DatabaseError):
                async with self._store.write() as session:
                    await session.execute(update(IdempotencyRow).where(*claim.mine).values(lease_until=until))

    async def _release(self, claim: Claim) -> None:
        try:
            async with self._store.write() as session:
                await session.execute(delete(IdempotencyRow).where(*claim.mine))
        except DatabaseError as error:
            log.warning("an idempotency key stays taken until its lease ends: %s", error)


async def _insert(
    session: TenantSession, claim: Claim, key: str, route: str, digest: str, lease_ms: int
) -> IdempotencyRow | None:
    """Return None if the claim now holds the key, else the row of the request that does."""
    if session.get_bind().dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert
    else:
        from sqlalchemy.dialects.sqlite import insert  # type: ignore[assignment]
    row = IdempotencyRow
    values = {
        "id": claim.id,
        "token": claim.token,
        "route": route,
        "body": digest,
        "lease_until": now_ms() + lease_ms,
        "subject": null(),
        "status": null(),
        "headers": null(),
        "response": null(),
        "expires_at": now_ms() + KEPT_SECONDS * 1000,
        "created_at": now(),
    }
    free = or_(row.expires_at < now_ms(), and_(row.status.is_(None), row.lease_until < now_ms()))
    taken = await session.execute(
        insert(row)
        .values(key=key, **values)
        .on_conflict_do_update(index_elements=["tenant", "key"], set_=values, where=free)
        .returning(row.id)
    )
    if taken.one_or_none() is not None:
        return None
    return (await session.scalars(select(row).where(row.key == key))).one()


def _key(request: Request) -> str | None:
    given = request.headers.getlist(HEADER)
    if not given:
        return None
    if len(given) > 1:
        raise fail("given_twice", "The request has several keys.", f"/{HEADER}")
    if re.fullmatch(_KEY, given[0]) is None:
        raise fail("bad_format", "A key is 1 to 255 printable ASCII characters.", f"/{HEADER}")
    return given[0]


def _in_flight() -> ProblemError:
    detail = "A request with this key is being answered."
    return fail("idempotency_in_flight", detail, headers={"Retry-After": "1"})


async def _digest(request: Request, route: str, body: Body | str) -> str:
    """Return a digest of everything that makes two requests the same: address, options, and body."""
    head = (route.encode(), request.scope["query_string"])
    if isinstance(body, str):
        return _hashed(*head, body.encode())
    parts = (*head, body.kind.encode())
    if len(body.data) < _LARGE:
        return _hashed(*parts, *_pieces(body))
    return await asyncio.to_thread(lambda: _hashed(*parts, *_pieces(body)))


def _pieces(body: Body) -> Iterator[bytes | memoryview]:
    """The body between its boundaries: a client that sends a form again makes up another one."""
    if body.kind != "multipart":
        yield body.data
        return
    view, start = memoryview(body.data), 0
    boundary = b"--" + body.boundary
    while (stop := body.data.find(boundary, start)) >= 0:
        yield view[start:stop]
        start = stop + len(boundary)
    yield view[start:]


def _hashed(*pieces: bytes | memoryview) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        # With its length, so that no two lists of pieces read the same.
        digest.update(len(piece).to_bytes(8, "big"))
        digest.update(piece)
    return digest.hexdigest()
