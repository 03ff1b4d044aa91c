"""An input that its learner does not take is a 422, or a 413 where it is too large."""

from __future__ import annotations

import base64
import io
import struct
import time
import zlib
from collections.abc import Callable

import httpx
import pytest
from PIL import Image

from tests.app.problems import OK, create, error, problem
from tests.models.inputs import hostile_images

pytestmark = pytest.mark.usefixtures("nothing_stored")


def bombs() -> bytes:
    """81 megapixels in under 10 kB: the header and the data say so, and no pixel need be drawn to know."""
    side = 9000

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(bytes((side // 8 + 1) * side), 9)
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_vector_to_an_image_learner(client: httpx.Client, task: str, b64: Callable[..., str]) -> None:
    response = create(client, learner="glyphs", support={"a": [[1.0]], "b": [b64()]})
    error(response, 422, "wrong_kind", "/support/a/0")
    response = client.post(f"/v1/tasks/{task}/predict", json={"queries": [b64(), {"vector": [1.0]}]})
    error(response, 422, "wrong_kind", "/queries/1")


def test_text_to_an_image_learner(client: httpx.Client, b64: Callable[..., str]) -> None:
    response = create(client, learner="glyphs", support={"a": [{"text": "cat"}], "b": [b64()]})
    error(response, 422, "wrong_kind", "/support/a/0")


@pytest.mark.parametrize("x", [{"image": "aGk="}, {"text": "hi"}, "aGk="])
def test_others_to_a_vector_learner(client: httpx.Client, x: object) -> None:
    response = create(client, learner="vectors", support={"a": [x], "b": [[1.0]]})
    error(response, 422, "wrong_kind", "/support/a/0")


def test_raw_image_to_a_vector_task(client: httpx.Client, png: Callable[..., bytes]) -> None:
    made = create(client, support={"a": OK, "b": OK}).json()["id"]
    response = client.post(f"/v1/tasks/{made}/predict", content=png(), headers={"Content-Type": "image/png"})
    error(response, 422, "wrong_kind", "/queries/0")
    client.delete(f"/v1/tasks/{made}")


def test_bare_text_without_a_learner(client: httpx.Client, b64: Callable[..., str]) -> None:
    error(create(client, support={"a": [b64()], "b": [b64()]}), 422, "ambiguous_input", "/support/a/0")


@pytest.mark.parametrize("x", [1, None, True, {}, {"image": 1}, {"image": "aGk=", "text": "a"}, {"x": 1}])
def test_no_input_at_all(client: httpx.Client, x: object) -> None:
    errors = problem(create(client, learner="vectors", support={"a": [x], "b": [x]}), 422, "wrong_type")[
        "errors"
    ]
    assert [found["pointer"] for found in errors] == ["/support/a/0", "/support/b/0"]


def test_two_vector_lengths(client: httpx.Client) -> None:
    error(create(client, support={"a": [[1, 2]], "b": [[1, 2, 3]]}), 422, "vector_length", "/support/b/0", 2)
    error(
        create(client, learner="triples", support={"a": [[1, 2, 3]], "b": [[1, 2]]}),
        422,
        "vector_length",
        "/support/b/0",
        3,
    )
    body = {"support": {"a": OK, "b": OK}, "queries": [[1.0, 2.0], [1.0]]}
    error(client.post("/v1/predict", json=body), 422, "vector_length", "/queries/1", 2)


@pytest.mark.parametrize(
    ("vector", "code", "limit"),
    [
        ([], "vector_empty", 1),
        ([1.0] * 8193, "vector_too_long", 8192),
        (["1", 2.0], "not_a_number", None),
        ([True, 2.0], "not_a_number", None),
        ([None, 2.0], "not_a_number", None),
        ([[1.0], 2.0], "not_a_number", None),
        ([1e39, 2.0], "not_finite", 3.4028234663852886e38),
    ],
)
def test_vectors(client: httpx.Client, vector: object, code: str, limit: float | None) -> None:
    support = {"a": [[1.0, 2.0], {"vector": vector}], "b": OK}
    error(create(client, support=support), 422, code, "/support/a/1", limit)


def test_numbers_that_overflow_inside(client: httpx.Client) -> None:
    body = {"support": {"a": [[3e38, 3e38], [1e38, 1e38]], "b": [[-3e38, 1.0]]}, "queries": [[1.0, 1.0]]}
    error(client.post("/v1/predict", json=body), 422, "numerical_overflow", "/support")


@pytest.mark.parametrize("text", ["!!!!", "aGk", "aGk=aGk=", "äöü=", "data:image/png,abc"])
def test_not_base64(client: httpx.Client, text: str, b64: Callable[..., str]) -> None:
    response = create(client, learner="glyphs", support={"a": [b64(), text], "b": [{"image": b64()}]})
    error(response, 422, "not_base64", "/support/a/1")
    response = create(client, learner="glyphs", support={"a": [{"image": text}], "b": [b64()]})
    error(response, 422, "not_base64", "/support/a/0/image")


@pytest.mark.parametrize("start", ["data:", "data:a/", "data:;", "data:;a="])
def test_refusing_a_data_url_is_no_work(client: httpx.Client, task: str, start: str) -> None:
    started = time.monotonic()
    response = client.post(f"/v1/tasks/{task}/predict", json={"queries": [start + "a" * 100_000]})
    error(response, 422, "not_base64", "/queries/0")
    assert time.monotonic() - started < 1


@pytest.mark.parametrize("data", [b"", b"hello", b"<svg/>", b"%PDF-1.7", bytes(100)])
def test_not_an_image(client: httpx.Client, task: str, data: bytes) -> None:
    text = base64.b64encode(data).decode()
    response = client.post(f"/v1/tasks/{task}/predict", json={"queries": [{"image": text}]})
    document = response.json()
    problem(response, 422, document["code"])
    assert document["code"] in ("not_an_image", "unsupported_image_format")
    assert document["errors"][0]["pointer"] == "/queries/0"


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_truncated_image(client: httpx.Client, task: str, png: Callable[..., bytes], format: str) -> None:
    data = png(size=200, format=format)
    headers = {"Content-Type": f"image/{format.lower()}"}
    response = client.post(f"/v1/tasks/{task}/predict", content=data[: len(data) // 2], headers=headers)
    error(response, 422, "truncated_image", "/queries/0")


def test_decompression_bomb(client: httpx.Client, task: str) -> None:
    data = bombs()
    assert len(data) < 11_000
    response = client.post(f"/v1/tasks/{task}/predict", content=data, headers={"Content-Type": "image/png"})
    error(response, 413, "image_too_large", "/queries/0", 40_000_000)


def test_many_large_images(client: httpx.Client, task: str) -> None:
    """None is too large alone; together they would keep a core busy for minutes."""
    data = io.BytesIO()
    Image.new("1", (6000, 6000)).save(data, "PNG")
    query = base64.b64encode(data.getvalue()).decode()
    response = client.post(f"/v1/tasks/{task}/predict", json={"queries": [query] * 20})
    assert response.json()["errors"][0]["limit"] == 400_000_000
    problem(response, 413, "image_too_large")


@pytest.mark.parametrize(
    ("name", "code", "limit"),
    [
        ("one run and an end of line", "unsupported_image_format", None),
        ("a newer header", "unsupported_image_format", None),
        ("jpeg of 200 scans", "image_too_complex", 100),
        ("gif of comments", "image_too_complex", 20_000),
        ("png of chunks", "image_too_complex", 20_000),
    ],
)
def test_images_that_would_take_minutes(
    client: httpx.Client, task: str, name: str, code: str, limit: float | None
) -> None:
    data = {**hostile_images.rle_bmps(), **hostile_images.too_complex()}[name]
    started = time.perf_counter()
    files = [("query", ("q", data, "application/octet-stream"))]
    error(client.post(f"/v1/tasks/{task}/predict", files=files), 422, code, "/queries/0", limit)
    assert time.perf_counter() - started < 10


MAGNITUDES = [1e-30, 1e-20, 1e-10, 1.0, 1e10, 1.9e19, 2e19, 1e25, 1e30, 1e38, 3.4e38]


@pytest.mark.parametrize("metric", ["directions", "places"])
@pytest.mark.parametrize("whole_task", [False, True])
def test_vectors_of_any_magnitude(client: httpx.Client, metric: str, whole_task: bool) -> None:
    """Each is answered by its class, or refused at its place; none is a toss-up."""
    support = {
        "directions": {"a": [[1.0, 0.1], [0.9, 0.0], [2.0, 0.1]], "b": [[0.1, 1.0], [0.0, 0.9], [0.1, 3.0]]},
        "places": {"a": [[1.0, 0.0], [1.1, 0.1], [0.9, 0.1]], "b": [[-1.0, 0.1], [-1.1, 0.0], [-0.9, 0.0]]},
    }[metric]
    queries = {"a": [1.0, 0.05], "b": [0.05, 1.0] if metric == "directions" else [-1.0, 0.05]}
    for size in MAGNITUDES:
        scale = size / 10 if whole_task else 1.0
        given = {label: [[scale * x for x in one] for one in some] for label, some in support.items()}
        for label, query in queries.items():
            body = {"support": given, "queries": [[x * (scale if whole_task else size) for x in query]]}
            answer = client.post("/v1/predict", json=body)
            if answer.status_code != 200:
                assert answer.status_code == 422
                found = answer.json()
                assert found["code"] == "numerical_overflow", found
                assert found["errors"][0]["pointer"] in ("/support", "/queries")
                continue
            best = answer.json()["predictions"][0]
            # To a learner with a scale of its own, small vectors of all classes are the same.
            if size >= 10:
                assert best["label"] == label, size
                assert best["confidence"] > 0.6, size
