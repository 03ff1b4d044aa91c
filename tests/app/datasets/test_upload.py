"""Large bodies go to the disk, not to memory, and not beyond their limits."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fastapi import Request

from app.http.problems import ProblemError
from app.http.upload import Spool

TAKES = {"text/csv": None}


def request(
    chunks: AsyncIterator[bytes], declared: int | None = None, media_type: bytes = b"text/csv"
) -> Request:
    async def receive() -> dict[str, object]:
        chunk = await anext(chunks, None)
        return {"type": "http.request", "body": chunk or b"", "more_body": chunk is not None}

    headers = [(b"content-type", media_type)]
    if declared is not None:
        headers.append((b"content-length", str(declared).encode()))
    return Request({"type": "http", "method": "POST", "headers": headers}, receive)


async def many(count: int, pause: float = 0) -> AsyncIterator[bytes]:
    for index in range(count):
        await asyncio.sleep(pause)
        yield bytes([index % 256]) * 1000


def spool(folder: Path, **limits: float) -> Spool:
    options = {"most": 10_000_000, "at_once": 2, "seconds": 5.0} | limits
    return Spool(folder, **options)  # type: ignore[arg-type]


def refused(folder: Path, chunks: AsyncIterator[bytes], **limits: float) -> ProblemError:
    async def receive() -> None:
        async with spool(folder, **limits).receive(request(chunks), TAKES):
            raise AssertionError("it was taken")

    with pytest.raises(ProblemError) as caught:
        asyncio.run(receive())
    return caught.value


def test_a_file_is_hashed_while_it_is_written_and_has_no_name(tmp_path: Path) -> None:
    async def receive() -> None:
        async with spool(tmp_path).receive(request(many(3_000)), TAKES) as found:
            expected = b"".join([bytes([index % 256]) * 1000 for index in range(3_000)])
            assert (found.size, found.media_type) == (3_000_000, "text/csv")
            assert found.sha256 == hashlib.sha256(expected).hexdigest()
            found.file.seek(0)
            assert found.file.read() == expected
            assert os.listdir(tmp_path) == []  # noqa: PTH208 - a path would block the loop, says the linter

    asyncio.run(receive())


def test_a_file_beyond_the_limit_ends_there(tmp_path: Path) -> None:
    seen = 0

    async def counted() -> AsyncIterator[bytes]:
        nonlocal seen
        async for chunk in many(100):
            seen += 1
            yield chunk

    assert refused(tmp_path, counted(), most=5_500).code == "body_too_large"
    assert seen == 6


def test_a_file_that_says_it_is_too_large_is_not_read(tmp_path: Path) -> None:
    async def receive() -> None:
        async with spool(tmp_path).receive(request(many(1), declared=3 << 30), TAKES):
            raise AssertionError("it was taken")

    with pytest.raises(ProblemError, match="body_too_large"):
        asyncio.run(receive())


def test_a_client_that_stops_sending(tmp_path: Path) -> None:
    assert refused(tmp_path, many(3, pause=0.5), seconds=0.05).code == "body_timeout"


def test_a_slow_client_that_goes_on_sending_is_waited_for(tmp_path: Path) -> None:
    async def receive() -> int:
        async with spool(tmp_path, seconds=0.2).receive(request(many(20, pause=0.03)), TAKES) as found:
            return found.size

    assert asyncio.run(receive()) == 20_000


def test_a_client_that_drips_does_not_keep_its_turn(tmp_path: Path) -> None:
    async def drops() -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(0.03)
            yield b"x"

    assert refused(tmp_path, drops(), seconds=0.2).code == "body_timeout"


def test_what_follows_the_last_boundary_has_an_end(tmp_path: Path) -> None:
    head = (
        b'--b\r\nContent-Disposition: form-data; name="file"\r\nContent-Type: text/csv\r\n\r\na\r\n--b--\r\n'
    )

    async def body() -> AsyncIterator[bytes]:
        yield head
        while True:
            yield bytes(10_000)

    async def receive() -> None:
        form = request(body(), media_type=b"multipart/form-data; boundary=b")
        async with spool(tmp_path, most=1_000).receive(form, TAKES):
            raise AssertionError("it was taken")

    with pytest.raises(ProblemError, match="body_too_large"):
        asyncio.run(receive())


def test_too_many_at_once(tmp_path: Path) -> None:
    async def receive() -> None:
        files = spool(tmp_path, at_once=1)
        async with files.receive(request(many(1)), TAKES):
            with pytest.raises(ProblemError) as caught:
                async with files.receive(request(many(1)), TAKES):
                    raise AssertionError("it was taken")
            assert caught.value.code == "busy"
        async with files.receive(request(many(1)), TAKES) as found:
            assert found.size == 1_000

    asyncio.run(receive())
