"""Bodies with Content-Encoding: gzip, and what they may unpack to."""

from __future__ import annotations

import gzip
import json
import os
import time
import zlib
from collections.abc import Callable, Iterator

import httpx
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.http.content_encoding import PIECE_BYTES, Unpacker
from app.http.limits import LIMITS
from app.http.problems import ProblemError
from tests.app.problems import error, problem
from tests.app.server import Server

GZIP = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
BODY = {
    "learner": "vectors",
    "support": {"a": [[0.0, 1.0]], "b": [[1.0, 0.0]]},
    "queries": [[0.0, 1.0]],
}


def packed(body: object) -> bytes:
    return gzip.compress(json.dumps(body).encode())


def unpacked(data: bytes, chunk: int) -> bytes:
    unpacker = Unpacker(gzip=True)
    pieces = [
        piece for start in range(0, len(data), chunk) for piece in unpacker.feed(data[start : start + chunk])
    ]
    unpacker.finish()
    assert all(len(piece) <= PIECE_BYTES for piece in pieces)
    return b"".join(pieces)


@given(st.lists(st.binary(max_size=2_000), min_size=1, max_size=5), st.integers(1, 300), st.integers(0, 9))
def test_members_and_chunks_of_any_size(parts: list[bytes], chunk: int, level: int) -> None:
    data = b"".join(gzip.compress(part, level) for part in parts)
    assert unpacked(data, chunk) == b"".join(parts)


@pytest.mark.parametrize(
    "size", [PIECE_BYTES + n for n in (-300, -258, -1, 0, 1, 2, 257, 258, 300)] + [3 * PIECE_BYTES]
)
@pytest.mark.parametrize("chunk", [100, 1 << 16])
def test_sizes_near_that_of_a_piece(size: int, chunk: int) -> None:
    for content in (bytes(size), os.urandom(size), b"abc" * (size // 3)):
        assert unpacked(gzip.compress(content, 1), chunk) == content


@given(st.binary(min_size=1, max_size=500), st.data())
def test_what_is_cut_off_is_refused(content: bytes, data: st.DataObject) -> None:
    whole = gzip.compress(content)
    with pytest.raises(ProblemError):
        unpacked(whole[: data.draw(st.integers(1, len(whole) - 1))], 64)


class TestRequests:
    def test_it_answers_as_without(self, client: httpx.Client) -> None:
        plain = client.post("/v1/predict", json=BODY).json()
        for encoding in ("gzip", "GZIP", "x-gzip", "identity, gzip"):
            headers = {**GZIP, "Content-Encoding": encoding}
            found = client.post("/v1/predict", content=packed(BODY), headers=headers).json()
            assert found["predictions"] == plain["predictions"]

    def test_chunked(self, client: httpx.Client) -> None:
        def chunks() -> Iterator[bytes]:
            data = packed(BODY)
            for start in range(0, len(data), 7):
                yield data[start : start + 7]

        assert client.post("/v1/predict", content=chunks(), headers=GZIP).status_code == 200

    def test_a_form(self, client: httpx.Client, png: object) -> None:
        form = client.build_request(
            "POST",
            "/v1/tasks",
            files=[("a", png(0)), ("b", png(20))],  # type: ignore[operator]
        )
        headers = {"Content-Type": form.headers["content-type"], "Content-Encoding": "gzip"}
        made = client.post("/v1/tasks", content=gzip.compress(form.read()), headers=headers)
        assert made.status_code == 201, made.text
        client.delete(f"/v1/tasks/{made.json()['id']}")

    @pytest.mark.parametrize(
        "content",
        [b"{}", packed(BODY)[:-1], packed(BODY)[:-9], packed(BODY) + b"x", b"\x1f\x8b", zlib.compress(b"{}")],
        ids=["plain", "a byte short", "no trailer", "a byte more", "two bytes", "zlib"],
    )
    def test_broken(self, client: httpx.Client, content: bytes) -> None:
        error(client.post("/v1/predict", content=content, headers=GZIP), 400, "invalid_gzip", "")

    def test_empty(self, client: httpx.Client) -> None:
        problem(client.post("/v1/predict", content=b"", headers=GZIP), 400, "empty_body")
        problem(client.post("/v1/predict", content=gzip.compress(b""), headers=GZIP), 400, "empty_body")

    def test_not_json_inside(self, client: httpx.Client) -> None:
        problem(client.post("/v1/predict", content=gzip.compress(b"{"), headers=GZIP), 400, "invalid_json")


class TestBombs:
    """The limit is that of what a body unpacks to, and no more is unpacked."""

    @pytest.mark.parametrize(
        "bomb",
        [
            lambda: gzip.compress(bytes(1 << 29), 1),
            lambda: gzip.compress(b" " * (LIMITS.json_bytes + 1)),
            lambda: gzip.compress(bytes(1 << 20)) * 100,
        ],
        ids=["one", "a byte too much", "members"],
    )
    def test_too_large(self, server: Server, bomb: Callable[[], bytes]) -> None:
        content = bomb()
        process = psutil.Process(server.process.pid)
        before, started = process.memory_info().rss, time.monotonic()
        response = server.client.post("/v1/tasks", content=content, headers=GZIP)
        error(response, 413, "body_too_large", "", LIMITS.json_bytes)
        assert time.monotonic() - started < 5
        assert process.memory_info().rss - before < 4 * LIMITS.json_bytes

    def test_many_empty_members(self, client: httpx.Client) -> None:
        bomb = gzip.compress(b"") * 20_000
        error(client.post("/v1/tasks", content=bomb, headers=GZIP), 400, "invalid_gzip", "")
