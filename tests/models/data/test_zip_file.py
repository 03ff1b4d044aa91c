"""Class folders in a zip."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from models.data import files, zip_file
from models.data.errors import DatasetFileError
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
        ({"class-0/notes.txt": b"hello"}, "not_an_image", "class-0/notes.txt"),
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
