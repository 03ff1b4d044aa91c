"""Size and type of a body are checked before its content: 413, 415; and addresses: 404, 405, odd query strings."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable

import httpx
import pytest

from tests.app.problems import JSON, error, post, problem

pytestmark = pytest.mark.usefixtures("nothing_stored")


class TestBodies:
    """408, 413, 415: what the body is, before what it says."""

    @pytest.mark.parametrize(
        "type", ["text/plain", "application/xml", "application/x-www-form-urlencoded", "image/png"]
    )
    def test_wrong_content_type(self, client: httpx.Client, type: str) -> None:
        response = client.post("/v1/tasks", content=b"{}", headers={"Content-Type": type})
        assert "application/json" in problem(response, 415, "unsupported_media_type")["detail"]

    @pytest.mark.parametrize(
        "type", ["application/json; charset=latin-1", "application/problem+json", "json", ""]
    )
    def test_nearly_json(self, client: httpx.Client, type: str) -> None:
        response = client.post("/v1/tasks", content=b"{}", headers={"Content-Type": type})
        problem(response, 415, "unsupported_media_type")

    @pytest.mark.parametrize("encoding", ["deflate", "br", "zstd", "compress", "gzip, gzip", "gzip, br", "x"])
    def test_content_encoding(self, client: httpx.Client, encoding: str) -> None:
        response = client.post("/v1/tasks", content=b"{}", headers={**JSON, "Content-Encoding": encoding})
        problem(response, 415, "unsupported_encoding")
        assert response.headers["accept-encoding"] == "gzip"

    def test_body_over_the_limit(self, client: httpx.Client) -> None:
        error(post(client, b" " * (33 << 20)), 413, "body_too_large", "", 32 << 20)

    def test_chunked_body_over_the_limit(self, client: httpx.Client) -> None:
        chunks = (b" " * (1 << 20) for _ in range(34))
        response = client.post("/v1/tasks", content=chunks, headers=JSON)
        error(response, 413, "body_too_large", "", 32 << 20)

    def test_raw_image_over_the_limit(self, client: httpx.Client, task: str) -> None:
        headers = {"Content-Type": "image/png"}
        response = client.post(f"/v1/tasks/{task}/predict", content=bytes(21 << 20), headers=headers)
        error(response, 413, "body_too_large", "", 20 << 20)

    def test_many_parts(self, client: httpx.Client, png: Callable[..., bytes]) -> None:
        files = [(str(index % 3), (None, png())) for index in range(1_500)]
        error(client.post("/v1/tasks", files=files), 413, "too_many_parts", "", 1000)

    @pytest.mark.parametrize(
        "body",
        [
            b"junk",
            b"--B\r\n\r\nx\r\n--B--\r\n",
            b'--B\r\nContent-Disposition: form-data; name="a"\r\n\r\nx',
            b'--B\r\nContent-Disposition: attachment; name="a"\r\n\r\nx\r\n--B--\r\n',
            b"--B--\r\n--B--\r\n",
        ],
    )
    def test_broken_multipart(self, client: httpx.Client, body: bytes) -> None:
        headers = {"Content-Type": "multipart/form-data; boundary=B"}
        response = client.post("/v1/tasks", content=body, headers=headers)
        assert 400 <= response.status_code < 500
        problem(response, response.status_code, response.json()["code"])

    def test_multipart_without_boundary(self, client: httpx.Client) -> None:
        response = client.post("/v1/tasks", content=b"x", headers={"Content-Type": "multipart/form-data"})
        problem(response, 400, "invalid_multipart")

    def test_multipart_names(self, client: httpx.Client, png: Callable[..., bytes], task: str) -> None:
        files = [("a", png()), ("query", png())]
        error(client.post("/v1/tasks", files=files), 422, "reserved_name", "/queries")
        error(client.post(f"/v1/tasks/{task}/predict", files=files), 422, "unknown_field", "/a")
        error(client.post("/v1/tasks", files=[("a", png())]), 422, "too_few_classes", "/support", 2)
        error(
            client.post("/v1/predict", files=[("a", png()), ("b", png())]), 422, "no_queries", "/queries", 1
        )
        error(
            client.post("/v1/tasks", files=[("a", png()), ("b", b"x")]), 422, "not_an_image", "/support/b/0"
        )
        named = client.post("/v1/tasks", files=[("a", png()), ("x" * 201, png())])
        error(named, 422, "invalid_label", "/parts/1", 200)

    def test_multipart_options(self, client: httpx.Client, png: Callable[..., bytes], task: str) -> None:
        response = client.post(f"/v1/tasks/{task}/predict?samples=1", files=[("query", png())])
        error(response, 422, "out_of_range", "/samples", 2)
        response = client.post(f"/v1/tasks/{task}/predict?coverage=nan", files=[("query", png())])
        assert problem(response, 422, response.json()["code"])["errors"][0]["pointer"] == "/coverage"


class TestAddresses:
    """404 and 405."""

    @pytest.mark.parametrize(
        "id", ["1", "9" * 23, "9" * 5000, "task_" + "0" * 26, "%00", "task_%F0%9F%98%80", "'"]
    )
    def test_no_such_task(self, client: httpx.Client, id: str) -> None:
        for method, suffix in (("GET", ""), ("DELETE", ""), ("POST", "/predict")):
            response = client.request(method, f"/v1/tasks/{id}{suffix}")
            assert response.status_code in (404, 405)
            problem(response, response.status_code, response.json()["code"])

    @pytest.mark.parametrize(
        "query", ["limit=0", "limit=201", "limit=x", f"limit={'9' * 5000}", "limit=1&x=2"]
    )
    def test_page_options(self, client: httpx.Client, query: str) -> None:
        problem(client.get(f"/v1/tasks?{query}"), 422, client.get(f"/v1/tasks?{query}").json()["code"])

    @pytest.mark.parametrize("cursor", ["", "x", "%00", "a" * 101, base64.b64encode(b"task_1").decode(), "ü"])
    def test_cursors(self, client: httpx.Client, cursor: str) -> None:
        response = client.get("/v1/tasks", params={"cursor": cursor})
        document = problem(response, 422, response.json()["code"])
        assert document["errors"][0]["pointer"] == "/cursor"

    def test_option_twice(self, client: httpx.Client, task: str) -> None:
        error(client.get("/v1/tasks?limit=1&limit=2"), 422, "given_twice", "/limit")
        response = client.post(f"/v1/tasks/{task}/predict?top=1&top=2", json={"queries": []})
        error(response, 422, "given_twice", "/top")
        error(client.get("/v1/tasks?a%2Fb&a%2Fb"), 422, "given_twice", "/a~1b")
        error(client.get("/v1/tasks?%00&%00"), 422, "given_twice", "")

    def test_many_options_are_no_work(self, client: httpx.Client) -> None:
        names = [f"a{index}" for index in range(5_000)]
        started = time.monotonic()
        error(client.get(f"/v1/tasks?{'&'.join([*names, 'a0'])}"), 422, "given_twice", "/a0")
        assert time.monotonic() - started < 0.5

    def test_json_in_a_part(self, client: httpx.Client) -> None:
        def parts(text: bytes) -> list[tuple[str, tuple[None, bytes, str]]]:
            return [("a", (None, b"[1]", "application/json")), ("b", (None, text, "application/json"))]

        error(client.post("/v1/tasks", files=parts(b"[NaN]")), 400, "not_json_number", "/support/b/0/0")
        error(client.post("/v1/tasks", files=parts(b"")), 400, "empty_body", "/support/b/0")
        error(client.post("/v1/tasks", files=parts(b"[1, 2]")), 422, "vector_length", "/support/b/0", 1)
        error(client.post("/v1/tasks", files=parts(b'"x"')), 422, "wrong_kind", "/support/b/0")
