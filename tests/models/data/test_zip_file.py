"""Class folders in a zip."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import pytest

from models.data import files, zip_file
from models.data.errors import DatasetFileError, ReadOptions
from tests.models.data.archives import folders, picture, zipped


def refused(members: dict[str, bytes], code: str, where: str | None) -> str:
    with pytest.raises(DatasetFileError) as caught:
        zip_file.inspect(zipped(members))
    assert (caught.value.code, caught.value.where) == (code, where)
    return f"{caught.value}"


@pytest.mark.parametrize("root", ["", "signs/"])
def test_classes_are_folders_and_one_folder_around_them_is_looked_through(root: str) -> None:
    file = zipped({**folders(root=root), f"{root}.DS_Store": b""})
    found = zip_file.inspect(file)
    assert (found.kind, found.shape, found.examples) == ("image", None, 6)
    assert found.classes == {"class-0": 2, "class-1": 2, "class-2": 2}
    data = zip_file.load(file, "signs")
    assert data.counts == found.classes
    assert (data.inputs.shape, int(data.inputs.max())) == ((6, 56, 56), 255)


def test_it_is_the_folder_that_it_was_made_of(tmp_path: Path) -> None:
    members = folders(4, 3)
    for name, data in members.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    plain, packed = files.load(tmp_path), zip_file.load(zipped(members), "x")
    assert plain.class_names == packed.class_names
    assert plain.inputs.equal(packed.inputs)
    assert plain.labels.equal(packed.labels)


@pytest.mark.parametrize(
    ("more", "code", "where"),
    [
        ({"stray.png": picture()}, "archive_layout", "stray.png"),
        ({"stray": picture()}, "archive_layout", "stray"),
        ({"stray.tiff": b"II*\0"}, "archive_layout", "stray.tiff"),
        ({"class-0/inner/1.png": picture()}, "archive_layout", "class-0/inner/1.png"),
        ({"class-9/": b""}, "empty_class", "class-9"),
        ({"class-9/": b"", "class-9/.DS_Store": b""}, "empty_class", "class-9"),
        ({"class-0/notes": b"hello"}, "not_an_image", "class-0/notes"),
        ({"class-0/0.npy": b"hello"}, "not_an_image", "class-0/0.npy"),
        ({"class-0/cut.png": picture()[:60]}, "truncated_image", "class-0/cut.png"),
        ({"class-0/a.tif": b"II*\0" + bytes(40)}, "unsupported_image_format", "class-0/a.tif"),
        ({"a\x07b/1.png": picture()}, "invalid_label", "a\x07b/1.png"),
        ({"x" * 201 + "/1.png": picture()}, "invalid_label", "x" * 201 + "/1.png"),
    ],
)
def test_the_member_at_fault_is_named(more: dict[str, bytes], code: str, where: str) -> None:
    message = refused({**folders(), **more}, code, where)
    assert len(message) < 400
    assert "\x07" not in message


@pytest.mark.parametrize("root", ["", "signs-main/", "signs-main/data/"])
def test_documents_beside_the_classes_are_left_out_and_named(root: str) -> None:
    beside = ["README.md", "LICENSE", "labels.csv", "setup.py", "Makefile"]
    extras = dict.fromkeys(beside, b"text") | {f"{root}{name}": b"text" for name in beside}
    found = zip_file.inspect(zipped({**extras, **folders(root=root), f"{root}docs/index.html": b"<p>"}))
    assert found.classes == {"class-0": 2, "class-1": 2, "class-2": 2}
    named = {name for warning in found.warnings for name in warning.examples}
    assert named == {*extras, f"{root}docs/index.html"}
    assert sum(warning.count for warning in found.warnings) == len(named)


@pytest.mark.parametrize(
    "names", [("class-0/0.txt", "class-1/notes/a.md"), ("docs/", "docs/README.md"), ("src/", "src/x.py")]
)
def test_documents_in_folders_are_left_out_and_named(names: tuple[str, ...]) -> None:
    found = zip_file.inspect(zipped({**folders(), **dict.fromkeys(names, b"")}))
    assert found.classes == {"class-0": 2, "class-1": 2, "class-2": 2}
    named = {name for warning in found.warnings for name in warning.examples}
    assert named == {name for name in names if not name.endswith("/")}


def test_leftovers_are_named_in_the_warnings() -> None:
    file = zipped({**folders(), **{f"class-0/.{index}": b"" for index in range(30)}})
    (warning,) = zip_file.inspect(file).warnings
    assert (warning.code, warning.count, len(warning.examples)) == ("leftovers_left_out", 30, 10)
    assert zip_file.inspect(zipped(folders())).warnings == ()


BAD = {
    "class-0/notes": b"hello",
    "class-0/cut.png": picture()[:60],
    "class-1/a.tif": b"II*\0" + bytes(40),
    "class-9/empty.png": b"",
}


def test_bad_images_are_left_out_and_named_if_that_is_chosen() -> None:
    file, options = zipped({**folders(), **BAD}), ReadOptions(skip_bad=True)
    found = zip_file.inspect(file, options)
    assert found.classes == {"class-0": 2, "class-1": 2, "class-2": 2}
    images, classes = found.warnings
    assert (images.code, images.count, set(images.examples)) == ("bad_images_left_out", 4, set(BAD))
    assert (classes.code, classes.examples) == ("classes_left_out", ("class-9",))
    data = zip_file.load(file, "signs", options=options)
    assert data.counts == found.classes
    assert data.inputs.equal(zip_file.load(zipped(folders()), "signs").inputs)
    with pytest.raises(DatasetFileError):
        zip_file.inspect(file)


def test_bad_images_alone_are_no_data_set() -> None:
    with pytest.raises(DatasetFileError) as caught:
        zip_file.inspect(zipped({"a/1.png": b"x", "b/1.png": b"x"}), ReadOptions(skip_bad=True))
    assert caught.value.code == "too_few_classes"


def test_labels_apart_from_the_folders() -> None:
    labels = {"0": "x/y", "1": "..", "2": "A: one"}
    members = {f"{folder}/0.png": picture(int(folder)) for folder in labels} | {"plain/0.png": picture(7)}
    file = zipped({"hyperserve.json": json.dumps({"labels": labels}).encode(), **members})
    assert set(zip_file.inspect(file).classes) == {"x/y", "..", "A: one", "plain"}
    assert set(zip_file.load(file, "signs").class_names) == {"x/y", "..", "A: one", "plain"}


@pytest.mark.parametrize(
    ("document", "code"),
    [
        (b"", "archive_labels"),
        (b"[" * 100_000, "archive_labels"),
        (b"[]", "archive_labels"),
        (b'{"labels": {"class-0": 1}}', "archive_labels"),
        (b'{"labels": {"nowhere": "a"}}', "archive_labels"),
        (b'{"labels": {"class-0": "a\\n"}}', "invalid_label"),
        (b'{"labels": {"class-0": "class-1"}}', "duplicate_label"),
    ],
)
def test_wrong_labels_apart(document: bytes, code: str) -> None:
    with pytest.raises(DatasetFileError) as caught:
        zip_file.inspect(zipped({"hyperserve.json": document, **folders()}))
    assert caught.value.code == code


def test_names_that_are_one_after_normalisation() -> None:
    twins = {"caf\u00e9/1.png": picture(), "cafe\u0301/1.png": picture()}
    refused({**folders(), **twins}, "duplicate_label", "caf\u00e9/1.png")


def test_one_class_is_too_few() -> None:
    refused(folders(1), "too_few_classes", None)
    refused({}, "too_few_classes", None)


def test_a_picture_that_is_too_large_is_not_unpacked() -> None:
    file = zipped({**folders(), "class-0/big.png": bytes(21 << 20)}, zipfile.ZIP_STORED)
    with pytest.raises(DatasetFileError) as caught:
        zip_file.inspect(file)
    assert (caught.value.code, caught.value.limit) == ("image_too_large", 20 << 20)


def test_pictures_that_would_take_hours_to_decode(monkeypatch: pytest.MonkeyPatch) -> None:
    members = {**folders(3, 2), "class-9/0.png": picture(size=300), "class-9/1.png": picture(size=300)}
    monkeypatch.setattr(zip_file, "MAX_PIXELS", 6 * 24 * 24 + 300 * 300)
    with pytest.raises(DatasetFileError) as caught:
        zip_file.inspect(zipped(members))
    assert (caught.value.code, caught.value.where) == ("archive_too_large", "class-9/1.png")


def test_formats_are_told_by_their_content() -> None:
    assert files.sniff(zipped(folders())) == "zip"
    assert files.sniff(zipped({"x.npy": b"", "label.npy": b""})) == "npz"
    assert files.sniff(io.BytesIO(b"cat,1,2\n")) == "csv"
