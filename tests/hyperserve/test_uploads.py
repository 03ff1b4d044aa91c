"""Uploads: files unchanged, folders zipped, streamed from disk and retried after broken connections."""

from __future__ import annotations

import io
import json
import shutil
import tempfile
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import hyperserve as hs
from hyperserve import uploads
from tests.hyperserve.scripted import Reply, Script, problem, scripted

DATASET = {
    "id": "ds_1",
    "name": None,
    "format": "zip",
    "kind": "image",
    "shape": None,
    "classes": {"cat": 2},
    "examples": 2,
    "bytes": 100,
    "created_at": "2026-11-21T10:00:00Z",
}


@pytest.fixture
def server() -> Iterator[Script]:
    with scripted(Reply(201, DATASET)) as script:
        yield script


@pytest.fixture
def client(server: Script) -> Iterator[hs.Client]:
    with hs.Client(server.url) as made:
        yield made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Create two classes and the files that file managers add."""
    for name in (
        "cat/1.png",
        "cat/2.png",
        "dog/1.png",
        "cat/.DS_Store",
        "__MACOSX/._x",
        ".git/config",
        "notes.txt",
    ):
        file = tmp_path / "animals" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(name.encode())
    return tmp_path / "animals"


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of temporary files."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


@pytest.mark.parametrize(("label", "query"), [("what it is", "what+it+is"), (3, "3"), (-1, "-1")])
def test_the_label_column_is_an_option(
    client: hs.Client, server: Script, tmp_path: Path, label: str | int, query: str
) -> None:
    (tmp_path / "a.csv").write_bytes(b"content")
    client.datasets.upload(tmp_path / "a.csv", label=label, skip_bad=True)
    assert server.requests[-1].path.replace("%20", "+") == f"/v1/datasets?label={query}&skip_bad=true"


def test_an_empty_file_is_not_sent(client: hs.Client, server: Script, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"")
    with pytest.raises(ValueError, match=r"a\.csv' is empty \(0 bytes\)"):
        client.datasets.upload(tmp_path / "a.csv")
    assert server.requests == []


def test_labels_of_vectors_are_texts_to_the_server() -> None:
    made = uploads.from_examples({"1.0": [[1, 2]], " a": [[3.5, 1e-9]], 'x"y': [[5, 6]]})
    text = made.path.read_text()
    made.discard()
    assert text == '"label","x0","x1"\n"1.0",1.0,2.0\n" a",3.5,1e-09\n"x""y",5.0,6.0\n'


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("a.zip", "application/zip"),
        ("a.NPZ", "application/x-npz"),
        ("a.csv", "text/csv"),
        ("a.tsv", "text/tab-separated-values"),
    ],
)
def test_the_suffix_tells_the_kind(
    client: hs.Client, server: Script, tmp_path: Path, name: str, media_type: str
) -> None:
    (tmp_path / name).write_bytes(b"content")
    made = client.datasets.upload(tmp_path / name, name="mine")
    request = server.requests[-1]
    assert (made.id, request.method, request.path) == ("ds_1", "POST", "/v1/datasets?name=mine")
    assert (request.headers["content-type"], request.body) == (media_type, b"content")
    assert request.headers["content-length"] == "7"
    assert request.headers["idempotency-key"]


def test_a_content_type_stands_for_the_suffix(client: hs.Client, server: Script, tmp_path: Path) -> None:
    (tmp_path / "table").write_bytes(b"1,2")
    client.datasets.upload(str(tmp_path / "table"), content_type="text/csv")
    assert server.requests[-1].headers["content-type"] == "text/csv"


def test_a_folder_goes_as_a_zip_of_its_classes(
    client: hs.Client, server: Script, folder: Path, temporary: Path
) -> None:
    client.datasets.upload(folder)
    assert server.requests[-1].headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(server.requests[-1].body)) as archive:
        found = {name: archive.read(name).decode() for name in archive.namelist()}
    assert found == {name: name for name in ("cat/1.png", "cat/2.png", "dog/1.png")}
    assert list(temporary.iterdir()) == []


def test_what_is_left_out_is_named_in_the_answer(client: hs.Client, server: Script, folder: Path) -> None:
    (warning,) = client.datasets.upload(folder).warnings
    assert (warning.code, warning.count) == ("leftovers_left_out", 4)
    assert set(warning.examples) == {"__MACOSX", ".git", "notes.txt", "cat/.DS_Store"}


def test_documents_are_no_examples(folder: Path) -> None:
    for name in ("cat/1.txt", "docs/README.md", "src/x.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"text")
    made = uploads.prepare(folder)
    assert {"cat/1.txt", "docs", "src"} < set(made.left_out)
    with zipfile.ZipFile(made.path) as archive:
        assert archive.namelist() == ["cat/1.png", "cat/2.png", "dog/1.png"]
    made.discard()


def test_a_picture_beside_the_classes_is_refused(client: hs.Client, server: Script, folder: Path) -> None:
    (folder / "stray.png").write_bytes(b"png")
    with pytest.raises(ValueError, match=r"the image 'stray\.png' lies beside the class folders"):
        client.datasets.upload(folder)
    assert server.requests == []


@pytest.mark.parametrize("name", ["a\\b", "A: one", "C:", "__MACOSX", ".net", "README"])
def test_a_label_is_the_name_of_its_folder(folder: Path, name: str) -> None:
    shutil.rmtree(folder / "__MACOSX")
    (folder / "cat").rename(folder / name)
    made = uploads.prepare(folder)
    with zipfile.ZipFile(made.path) as archive:
        labels = {}
        if "hyperserve.json" in archive.namelist():
            labels = json.loads(archive.read("hyperserve.json"))["labels"]
        found = {member.split("/")[0] for member in archive.namelist() if "/" in member}
        assert {labels.get(name, name) for name in found} == {name, "dog"}
    made.discard()


def test_nothing_is_left_behind_when_it_fails(
    client: hs.Client, server: Script, folder: Path, temporary: Path
) -> None:
    server.replies[:] = [Reply(422, problem(422))]
    with pytest.raises(hs.UnprocessableError):
        client.datasets.upload(folder)
    (folder / "empty").mkdir()
    with pytest.raises(ValueError, match="class 'empty' has no examples"):
        client.datasets.upload(folder)
    (folder / "empty/inner").mkdir()
    with pytest.raises(ValueError, match="class 'empty' must hold files only, but 'inner' is not a file"):
        client.datasets.upload(folder)
    assert list(temporary.iterdir()) == []


def test_the_same_folder_gives_the_same_bytes(folder: Path) -> None:
    first, second = uploads.prepare(folder), uploads.prepare(folder)
    assert first.path != second.path
    assert first.path.read_bytes() == second.path.read_bytes()
    first.discard()
    second.discard()
    assert not first.path.exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.png", "the suffix is none of .zip, .npz, .csv"),
        ("missing.zip", "cannot read"),
        (".", "has no subfolders"),
    ],
)
def test_what_is_no_dataset_is_refused_before_anything_is_sent(
    client: hs.Client, server: Script, tmp_path: Path, name: str, message: str
) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(ValueError, match=message):
        client.datasets.upload(tmp_path / name)
    assert server.requests == []


def test_a_broken_upload_begins_anew(client: hs.Client, server: Script, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"1,2")
    server.replies[:] = [
        Reply(body=None),
        Reply(503, problem(503), {"Retry-After": "0"}),
        Reply(201, DATASET),
    ]
    client.datasets.upload(tmp_path / "a.csv")
    assert [request.body for request in server.requests] == [b"1,2"] * 3
    assert len({request.headers["idempotency-key"] for request in server.requests}) == 1


def test_a_large_file_is_not_held_in_memory(tmp_path: Path) -> None:
    size = 48 << 20
    with (tmp_path / "a.npz").open("wb") as file:
        file.truncate(size)
    with scripted(Reply(201, DATASET), reads=False) as server, hs.Client(server.url) as sender:
        tracemalloc.start()
        try:
            sender.datasets.upload(tmp_path / "a.npz")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < size / 4


def test_datasets_are_listed_found_and_deleted(client: hs.Client, server: Script) -> None:
    server.replies[:] = [
        Reply(body={"items": [DATASET], "next_cursor": None}),
        Reply(body=DATASET),
        Reply(204, b""),
        Reply(409, problem(409, "dataset_in_use")),
    ]
    (found,) = client.datasets.list()
    assert client.datasets.get("ds_1") == found
    client.datasets.delete(found)
    with pytest.raises(hs.ConflictError):
        client.datasets.delete("ds_1")
    assert [(request.method, request.path) for request in server.requests[1:]] == [
        ("GET", "/v1/datasets/ds_1"),
        ("DELETE", "/v1/datasets/ds_1"),
        ("DELETE", "/v1/datasets/ds_1"),
    ]
