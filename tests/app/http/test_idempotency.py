"""A key is claimed once, answered once, and freed by failure, by time, or by a lease that ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest
from fastapi import Request
from sqlalchemy import insert, select, update

from app.db.clock import now_ms
from app.db.database import Database
from app.db.invalidation_log import Change, record
from app.db.tables import ChangeRow, IdempotencyRow
from app.http.body import Body
from app.http.idempotency import Claim, Idempotency, ReplayError, forget
from app.http.problems import ProblemError
from hyperserve.types import Health
from tests.app.stores import store_of

ANSWER = Health(status="ok", detail="made")
JSON = Body("json", b"{}")


def request(*keys: str, path: str = "/v1/things", query: str = "") -> Request:
    headers = [(b"idempotency-key", key.encode("latin-1")) for key in keys]
    scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "headers": headers}
    return Request(scope | {"query_string": query.encode()})


async def effect(database: Database, claim: Claim, name: str, tenant: str = "t") -> None:
    """Create something in the transaction that keeps the answer."""
    async with store_of(database, tenant).write() as session:
        await record(session, Change(tenant, "task", name))
        await claim.keep(session, 201, ANSWER, {"Location": "/v1/things/1"})


async def effects(database: Database) -> list[str]:
    async with database.read() as session:
        return list(await session.scalars(select(ChangeRow.subject)))


Test = Callable[[Database, Idempotency], Awaitable[None]]


@pytest.fixture
def run(database_url: str) -> Callable[..., None]:
    """On SQLite and on PostgreSQL."""

    async def with_database(test: Test, lease: float) -> None:
        database = Database(database_url)
        try:
            await test(database, Idempotency(store_of(database), lease))
        finally:
            await database.close()

    return lambda test, lease=20.0: asyncio.run(with_database(test, lease))


async def refused(keys: Idempotency, *given: str, body: Body = JSON, **how: str) -> str:
    """Return the code of the problem that a request meets."""
    with pytest.raises(ProblemError) as caught:
        async with keys.claim(request(*given, **how), body):
            raise AssertionError
    return caught.value.code


def test_an_answered_key_is_replayed(run: Callable[..., None]) -> None:
    async def test(database: Database, keys: Idempotency) -> None:
        async with keys.claim(request("k"), JSON) as claim:
            await effect(database, claim, "first")
        with pytest.raises(ReplayError) as caught:
            async with keys.claim(request("k"), JSON):
                raise AssertionError
        stored = caught.value.response
        assert (stored.status_code, json.loads(stored.body)) == (201, ANSWER.model_dump())
        assert stored.headers["location"] == "/v1/things/1"
        assert stored.headers["content-type"] == "application/json"
        assert stored.headers["idempotency-replayed"] == "true"
        assert await effects(database) == ["first"]

    run(test)


def test_a_deleted_resource_is_not_shown_any_more(run: Callable[..., None]) -> None:
    """Nor is it made again by a request that comes late."""

    async def test(database: Database, keys: Idempotency) -> None:
        for store in (store_of(database, "t"), store_of(database, "u")):
            async with Idempotency(store).claim(request("k"), JSON) as claim, store.write() as session:
                await claim.keep(session, 201, ANSWER, {"Location": "/v1/things/1"}, "thing_1")
        async with store_of(database, "t").write() as session:
            await forget(session, "thing_1")
        assert await refused(keys, "k") == "idempotency_deleted"
        async with database.read() as session:
            told = list(await session.scalars(select(IdempotencyRow).order_by(IdempotencyRow.tenant)))
        assert [(row.response is None, row.headers is None) for row in told] == [(True, True), (False, False)]

    run(test)


def test_tenants_have_keys_of_their_own(run: Callable[..., None]) -> None:
    async def test(database: Database, keys: Idempotency) -> None:
        for tenant in ("t", "u"):
            async with Idempotency(store_of(database, tenant)).claim(request("k"), JSON) as claim:
                await effect(database, claim, tenant, tenant)
        assert sorted(await effects(database)) == ["t", "u"]

    run(test)


@pytest.mark.parametrize("answered", [True, False])
def test_another_request_with_the_key_is_refused(run: Callable[..., None], answered: bool) -> None:
    """While the first is in flight, and after."""

    async def test(database: Database, keys: Idempotency) -> None:
        async def others() -> None:
            other = Body("json", b"[]")
            assert await refused(keys, "k", body=other) == "idempotency_mismatch"
            assert await refused(keys, "k", path="/v1/others") == "idempotency_mismatch"
            assert await refused(keys, "k", query="promote=false") == "idempotency_mismatch"
            assert await refused(keys, "k", body=Body("image", b"{}")) == "idempotency_mismatch"

        async with keys.claim(request("k"), JSON) as claim:
            if answered:
                await effect(database, claim, "first")
            else:
                await others()
        if answered:
            await others()

    run(test)


def test_a_key_in_flight(run: Callable[..., None]) -> None:
    async def test(_: Database, keys: Idempotency) -> None:
        async with keys.claim(request("k"), JSON):
            assert await refused(keys, "k") == "idempotency_in_flight"

    run(test)


def test_of_many_at_once_one_works(run: Callable[..., None]) -> None:
    async def test(database: Database, keys: Idempotency) -> None:
        async def one(index: int) -> str:
            try:
                async with keys.claim(request("k"), JSON) as claim:
                    await asyncio.sleep(0.05)
                    await effect(database, claim, f"{index}")
            except (ProblemError, ReplayError) as error:
                return f"{error}"
            return "done"

        found = await asyncio.gather(*map(one, range(8)))
        assert found.count("done") == 1 == len(await effects(database))
        assert set(found) <= {"done", "idempotency_in_flight", "Idempotency-Replayed"}

    run(test)


def test_a_failed_request_frees_its_key(run: Callable[..., None]) -> None:
    """Its effect is rolled back with the answer, and another body may use the key."""

    async def test(database: Database, keys: Idempotency) -> None:
        async def failing() -> None:
            async with keys.claim(request("k"), JSON) as claim, store_of(database).write() as session:
                await record(session, Change("t", "task", "lost"))
                await claim.keep(session, 201, ANSWER)
                raise ValueError

        with pytest.raises(ValueError):  # noqa: PT011
            await failing()
        async with keys.claim(request("k"), Body("json", b"[]")) as claim:
            await effect(database, claim, "kept")
        assert await effects(database) == ["kept"]

    run(test)


def test_a_request_that_made_nothing_frees_its_key(run: Callable[..., None]) -> None:
    async def test(_: Database, keys: Idempotency) -> None:
        for _again in range(2):
            async with keys.claim(request("k"), JSON):
                pass

    run(test)


def test_an_answer_is_kept_though_the_request_fails_later(run: Callable[..., None]) -> None:
    async def test(database: Database, keys: Idempotency) -> None:
        async def failing() -> None:
            async with keys.claim(request("k"), JSON) as claim:
                await effect(database, claim, "first")
                raise ValueError

        with pytest.raises(ValueError):  # noqa: PT011
            await failing()
        with pytest.raises(ReplayError):
            async with keys.claim(request("k"), JSON):
                raise AssertionError

    run(test)


def test_a_lease_that_ended_is_taken_over_and_fences_the_late(run: Callable[..., None]) -> None:
    async def test(database: Database, keys: Idempotency) -> None:
        async def late() -> None:
            async with keys.claim(request("k"), JSON) as claim:
                async with database.write() as session:  # as if this process had stalled
                    await session.execute(update(IdempotencyRow).values(lease_until=now_ms() - 1))
                async with keys.claim(request("k"), JSON) as other:
                    await effect(database, other, "first")
                await effect(database, claim, "second")

        with pytest.raises(ProblemError, match="idempotency_in_flight"):
            await late()
        assert await effects(database) == ["first"]
        with pytest.raises(ReplayError):
            async with keys.claim(request("k"), JSON):
                raise AssertionError

    run(test)


def test_a_slow_request_keeps_its_lease(run: Callable[..., None]) -> None:
    async def test(database: Database, keys: Idempotency) -> None:
        async with keys.claim(request("k"), JSON) as claim:
            await asyncio.sleep(0.9)
            assert await refused(keys, "k") == "idempotency_in_flight"
            await effect(database, claim, "first")
        assert await effects(database) == ["first"]

    run(test, lease=0.4)


def test_an_answer_is_forgotten_after_a_day(run: Callable[..., None]) -> None:
    async def test(database: Database, keys: Idempotency) -> None:
        async with keys.claim(request("k"), JSON) as claim:
            await effect(database, claim, "first")
        async with database.read() as session:
            left = await session.scalar(select(IdempotencyRow.expires_at - now_ms()))
        assert left == pytest.approx(24 * 3600 * 1000, abs=60_000)
        async with database.write() as session:
            await session.execute(update(IdempotencyRow).values(expires_at=now_ms() - 1))
        async with keys.claim(request("k"), Body("json", b"[]")) as claim:
            await effect(database, claim, "second")
        assert await effects(database) == ["first", "second"]

    run(test)


def test_a_row_of_a_killed_process_lapses(run: Callable[..., None]) -> None:
    async def test(database: Database, keys: Idempotency) -> None:
        row = {"id": "idem_1", "tenant": "t", "key": "k", "route": "POST /x", "body": "-", "token": "turn_1"}
        async with database.write() as session:
            times = {"lease_until": now_ms() - 1, "expires_at": now_ms() + 1_000_000}
            await session.execute(insert(IdempotencyRow).values(row | times))
        async with keys.claim(request("k"), JSON) as claim:
            await effect(database, claim, "again")
        assert await effects(database) == ["again"]

    run(test)


def test_bad_keys(run: Callable[..., None]) -> None:
    async def test(_: Database, keys: Idempotency) -> None:
        for key in ("", "x" * 256, "ä", "a\tb", "\x7f"):
            assert await refused(keys, key) == "bad_format"
        assert await refused(keys, "a", "b") == "given_twice"

    run(test)


def test_without_a_key_nothing_is_claimed(run: Callable[..., None]) -> None:
    async def test(database: Database, keys: Idempotency) -> None:
        for name in ("first", "second"):
            async with keys.claim(request(), JSON) as claim:
                await effect(database, claim, name)
        assert await effects(database) == ["first", "second"]

    run(test)


def test_a_form_may_have_another_boundary(run: Callable[..., None]) -> None:
    """Clients make up a new boundary each time; the rest must be the same."""

    def form(boundary: bytes, value: bytes) -> Body:
        lines = b'--%b\r\nContent-Disposition: form-data; name="a"\r\n\r\n%b\r\n--%b--\r\n'
        return Body("multipart", lines % (boundary, value, boundary), boundary)

    async def test(database: Database, keys: Idempotency) -> None:
        async with keys.claim(request("k"), form(b"one", b"x")) as claim:
            await effect(database, claim, "first")
        with pytest.raises(ReplayError):
            async with keys.claim(request("k"), form(b"another", b"x")):
                raise AssertionError
        assert await refused(keys, "k", body=form(b"one", b"y")) == "idempotency_mismatch"

    run(test)
