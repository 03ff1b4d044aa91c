"""Every label by every way in: the label that comes out is the one that went in, in NFC, or the request is refused."""

from __future__ import annotations

import base64
import csv
import io
import json
import unicodedata
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

import hyperserve as hs
from tests.app.conftest import zoo
from tests.app.server import Server
from tests.models.data.archives import picture, unflagged, zipped

__all__ = ["zoo"]

OTHER = "the other one"
LABELS = [
    "cat",
    "fish tail",
    " leading",
    "trailing ",
    "two  spaces",
    'say "hi"',
    '"',
    "it's",
    "a\\b",
    "a\\\\b",
    "\\\\host\\share",
    "fish\\ tail",
    "back\\",
    "\\",
    'q\\"uote',
    "x/y",
    "/root",
    "A: one",
    "C:",
    "50%",
    "100%25",
    "%0A",
    "a;b",
    "a; filename=b",
    "a,b",
    "a=b&c",
    "-dash",
    "=1+1",
    "@home",
    "#1",
    ".net",
    "..",
    ".",
    "~tilde",
    "<b>",
    "{}",
    "caf\u00e9",
    "cafe\u0301",
    "\u00c4pfel",
    "\u6f22\u5b57",
    "\u0440\u0443\u0441",
    "\U0001f600",
    "\u2028",
    "\u00a0",
    "\ufeffbom",
    "__MACOSX",
    "README",
    "Thumbs.db",
    "query?",
    "support",
    "label",
    "0",
    "7",
    "007",
    "1.0",
    "1e5",
    "-3",
    "NaN",
    "NA",
    "null",
    "true",
    "x" * 200,
    "\U0001f600" * 200,
]
INVALID = ["", "line\nbreak", "line\r\nbreak", "tab\tbed", "\x00", "\x7f", "\u0085", "x" * 201]
"""Texts that are no labels."""

VECTORS = {"Content-Type": "text/csv"}
ZIP = {"Content-Type": "application/zip"}
NPZ = {"Content-Type": "application/x-npz"}


class RefusedError(Exception):
    """The way refuses the label, or cannot carry it."""


Way = Callable[[Server, str, Path], set[str]]


def classes(response: httpx.Response) -> set[str]:
    if response.status_code >= 400:
        document = response.json()
        assert 400 <= response.status_code < 500, document
        raise RefusedError(document["code"])
    return set(response.json()["classes"])


def json_map(server: Server, label: str, _: Path) -> set[str]:
    return classes(server.client.post("/v1/tasks", json={"support": {label: [[1.0]], OTHER: [[2.0]]}}))


def json_list(server: Server, label: str, _: Path) -> set[str]:
    support = [{"input": [1.0], "label": label}, {"input": [2.0], "label": OTHER}]
    return classes(server.client.post("/v1/tasks", json={"support": support}))


def by_httpx(server: Server, label: str, _: Path) -> set[str]:
    vectors = dict.fromkeys((label, OTHER), (None, b"[1]", "application/json"))
    return classes(server.client.post("/v1/tasks?learner=vectors", files=vectors))


def whatwg(label: str) -> bytes:
    """Write a name as browsers and node do."""
    escaped = label.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
    return b'name="%s"' % escaped.encode()


def rfc9110(label: str) -> bytes:
    """Write a name as Go does."""
    return b'name="%s"' % label.replace("\\", "\\\\").replace('"', '\\"').encode()


def aiohttp(label: str) -> bytes:
    """Write a name as aiohttp does: spaces are escaped too, and other than ASCII is percent-encoded."""
    if all(" " <= character <= "~" or character == "\t" for character in label):
        escaped = "".join(c if "!" <= c <= "~" and c not in '"\\' else f"\\{c}" for c in label)
        return b'name="%s"' % escaped.encode()
    encoded = "".join(f"%{byte:02X}" for byte in label.encode())
    return b"name*=utf-8''%s" % encoded.encode()


def dot_net(label: str) -> bytes:
    """Write a name as HttpClient of .NET does: other than ASCII is an encoded word."""
    return rfc9110(label) if label.isascii() else b'name="=?utf-8?B?%s?="' % base64.b64encode(label.encode())


def multipart(write: Callable[[str], bytes], sender: str) -> Way:
    def send(server: Server, label: str, _: Path) -> set[str]:
        parts = b"".join(
            b'--XX\r\nContent-Disposition: form-data; %s; filename="1 2.png"\r\n'
            b"Content-Type: application/json\r\nContent-Transfer-Encoding: binary\r\n\r\n[1]\r\n"
            % write(name)
            for name in (label, OTHER)
        )
        headers = {"Content-Type": "multipart/form-data; boundary=XX", "User-Agent": sender}
        return classes(
            server.client.post("/v1/tasks?learner=vectors", content=parts + b"--XX--\r\n", headers=headers)
        )

    return send


def dataset(server: Server, data: bytes, headers: dict[str, str]) -> set[str]:
    response = server.client.post("/v1/datasets", content=data, headers=headers)
    if response.status_code == 201:
        server.client.delete(response.headers["location"])
    return classes(response)


def zip_folders(server: Server, label: str, _: Path) -> set[str]:
    if "\0" in label:
        raise RefusedError("zipfile cuts the name")
    members = {f"{label}/0.png": picture(), f"{OTHER}/0.png": picture(3)}
    return dataset(server, zipped(members).getvalue(), ZIP)


def zip_folders_without_flag(server: Server, label: str, _: Path) -> set[str]:
    if "\0" in label:
        raise RefusedError("zipfile cuts the name")
    members = {f"{label}/0.png": picture(), f"{OTHER}/0.png": picture(3)}
    return dataset(server, unflagged(zipped(members)).getvalue(), ZIP)


def zip_with_labels(server: Server, label: str, _: Path) -> set[str]:
    labels = json.dumps({"labels": {"0": label}}).encode()
    members = {"hyperserve.json": labels, "0/0.png": picture(), f"{OTHER}/0.png": picture(3)}
    return dataset(server, zipped(members).getvalue(), ZIP)


def csv_file(server: Server, label: str, _: Path) -> set[str]:
    text = io.StringIO(newline="")
    rows = csv.writer(text, quoting=csv.QUOTE_NONNUMERIC)
    rows.writerows([["label", "x"], [label, 1.5], [OTHER, 2.5]])
    return dataset(server, text.getvalue().encode(), VECTORS)


def npz_file(server: Server, label: str, _: Path) -> set[str]:
    if label.endswith("\0"):
        raise RefusedError("numpy cuts the text")
    file = io.BytesIO()
    np.savez(file, x=np.eye(2, dtype="f4"), label=np.array([label, OTHER]))
    return dataset(server, file.getvalue(), NPZ)


def client_map(server: Server, label: str, _: Path) -> set[str]:
    with hs.Client(server.url, max_retries=0) as client:
        return set(client.tasks.create({label: [[1.0]], OTHER: [[2.0]]}).classes)


def client_list(server: Server, label: str, _: Path) -> set[str]:
    with hs.Client(server.url, max_retries=0) as client:
        return set(client.tasks.create([([1.0], label), ([2.0], OTHER)]).classes)


def client_folder(server: Server, label: str, folder: Path) -> set[str]:
    if label in ("", ".", "..") or "/" in label or "\0" in label or len(label.encode()) > 255:
        raise RefusedError("no name of a folder")
    for name in (label, OTHER):
        (folder / "set" / name).mkdir(parents=True)
        (folder / "set" / name / "0.png").write_bytes(picture(len(name)))
    with hs.Client(server.url, max_retries=0) as client:
        made = client.datasets.upload(folder / "set")
        client.datasets.delete(made)
        return set(made.classes)


def registered(server: Server, examples: dict[str, list[object]], input: dict[str, object]) -> set[str]:
    with hs.Client(server.url, max_retries=0) as client:
        stream = client.streams.create(f"labels-{uuid.uuid4().hex[:8]}", method="analytic", input=input)
        try:
            task = stream.register("t", examples, wait=False)
            client.jobs.cancel(task.job or "")
            client.datasets.delete(task.dataset or "")
            return set(task.labels)
        finally:
            stream.delete()


def stream_of_images(server: Server, *labels: str) -> set[str]:
    examples: dict[str, list[object]] = {label: [picture()] * 3 for label in labels}
    return registered(server, examples, {"kind": "image", "size": 28})


def stream_of_vectors(server: Server, *labels: str) -> set[str]:
    examples: dict[str, list[object]] = {label: [[1.0, 2.0]] * 3 for label in labels}
    return registered(server, examples, {"kind": "vector", "dim": 2})


STREAMS = {"images": stream_of_images, "vectors": stream_of_vectors}
"""Streams take many labels at once."""


ANY: dict[str, Way] = {
    "JSON map": json_map,
    "JSON list": json_list,
    "httpx": by_httpx,
    "node": multipart(whatwg, "node"),
    "Firefox": multipart(whatwg, "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    "Go": multipart(rfc9110, "Go-http-client/1.1"),
    "aiohttp": multipart(aiohttp, "Python/3.13 aiohttp/3.14.0"),
    "RFC 9110": multipart(rfc9110, "anyone/1.0"),
    "encoded word": multipart(dot_net, ""),
    "zip with labels": zip_with_labels,
    "CSV": csv_file,
    "npz": npz_file,
    "client map": client_map,
    "client list": client_list,
}
"""Ways that take every label."""
SOME: dict[str, Way] = {
    "zip": zip_folders,
    "zip without flag": zip_folders_without_flag,
    "client folder": client_folder,
}
"""Ways in names of folders: not every label can be one."""
NO_FOLDERS = {"x/y", "/root", "C:", "..", ".", "\\", "\\\\host\\share"}
LINE_BREAK = "%0A"
"""A label that browsers, httpx and unknown clients write as they write a line break, so that it is refused."""
AMBIGUOUS = {"httpx", "node", "Firefox", "RFC 9110", "encoded word"}


@pytest.fixture(scope="module")
def server(zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Yield a server of its own, on which the many tasks may stay."""
    running = Server(tmp_path_factory.mktemp("labels") / "data", zoo)
    running.start()
    yield running
    running.stop()


@pytest.mark.parametrize("way", ANY)
def test_every_label_comes_out_as_it_went_in(server: Server, way: str, tmp_path: Path) -> None:
    wrong = {}
    for label in LABELS:
        try:
            found: object = ANY[way](server, label, tmp_path)
        except (RefusedError, hs.HyperserveError) as error:
            found = repr(error)
        if label == LINE_BREAK and way in AMBIGUOUS:
            assert "invalid_label" in str(found)
            continue
        if found != {unicodedata.normalize("NFC", label), OTHER}:
            wrong[label] = found
    assert not wrong


@pytest.mark.parametrize("kind", STREAMS)
def test_every_label_is_that_of_a_stream_task(server: Server, kind: str) -> None:
    # "café" is there in two forms, which are one label.
    for labels in (LABELS[::2], LABELS[1::2]):
        assert STREAMS[kind](server, *labels) == {unicodedata.normalize("NFC", label) for label in labels}


@pytest.mark.parametrize("way", SOME)
def test_a_folder_is_its_label_or_is_refused(server: Server, way: str, tmp_path: Path) -> None:
    wrong = {}
    for number, label in enumerate(LABELS):
        folder = tmp_path / str(number)
        try:
            found: object = SOME[way](server, label, folder)
        except (RefusedError, hs.HyperserveError, OSError) as error:
            found = None if label in NO_FOLDERS or len(label.encode()) > 255 else repr(error)
        if found not in (None, {unicodedata.normalize("NFC", label), OTHER}):
            wrong[label] = found
    assert not wrong


@pytest.mark.parametrize("way", {**ANY, **SOME})
def test_what_is_no_label_is_refused(server: Server, way: str, tmp_path: Path) -> None:
    taken = {}
    for number, label in enumerate(INVALID):
        try:
            taken[label] = {**ANY, **SOME}[way](server, label, tmp_path / str(number))
        except (RefusedError, hs.HyperserveError, OSError):
            continue
    assert not taken


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("label", INVALID)
def test_what_is_no_label_is_not_that_of_a_stream_task(server: Server, kind: str, label: str) -> None:
    with pytest.raises(hs.HyperserveError):
        STREAMS[kind](server, label, OTHER)


def test_whole_numbers_are_labels(server: Server) -> None:
    support = [{"input": [1.0], "label": 0}, {"input": [2.0], "label": 1}]
    assert classes(server.client.post("/v1/tasks", json={"support": support})) == {"0", "1"}
    with hs.Client(server.url) as client:
        task = client.tasks.create(list(zip([[1.0], [2.0]], np.array([3, 4]), strict=True)))
        assert task.classes == ["3", "4"]
        task = task.add({5: [[3.0]]}).add([([4.0], 6)])
        assert task.classes == ["3", "4", "5", "6"]
        (example, *_) = task.support()
        assert set(task.relabel(example, 7).classes) == {"4", "5", "6", "7"}


@pytest.mark.parametrize(
    ("query", "pointer"),
    [("name=%E4", "/name"), ("name=a%FFb", "/name"), ("%E4=1", ""), ("name=%C3", "/name")],
)
def test_a_query_string_that_is_not_utf8(server: Server, query: str, pointer: str) -> None:
    for path in ("/v1/tasks", "/v1/datasets", "/v1/streams/s/tasks"):
        response = server.client.post(f"{path}?{query}", json={"support": {"a": [[1.0]], "b": [[2.0]]}})
        document = response.json()
        assert (response.status_code, document["code"]) == (400, "invalid_utf8")
        assert [error["pointer"] for error in document["errors"]] == [pointer]
