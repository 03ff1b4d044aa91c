"""What an archive from a stranger may not be, and the code that says so."""

from __future__ import annotations

import contextlib
import io
import stat
import struct
import warnings
import zipfile
import zlib

import pytest

from models.data import archive
from models.data.archive import Archive
from models.data.errors import DatasetFileError
from tests.models.data.archives import (
    FLAGS,
    METHOD,
    UNPACKED,
    in_code_page,
    patched,
    picture,
    special,
    unflagged,
    zipped,
)


def read_all(file: io.BytesIO) -> None:
    found = Archive(file)
    for member in found.files:
        found.read(member)


def refused(file: io.BytesIO, code: str, where: str | None = None) -> DatasetFileError:
    with pytest.raises(DatasetFileError) as caught:
        read_all(file)
    assert (caught.value.code, caught.value.where) == (code, where)
    return caught.value


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("../cat/1.png", "archive_path_escapes"),
        ("cat/../../1.png", "archive_path_escapes"),
        ("cat\\..\\1.png", "archive_path_escapes"),
        ("/etc/passwd", "archive_path_absolute"),
        ("C:/cat/1.png", "archive_path_absolute"),
        ("\\\\host\\cat\\1.png", "archive_path_absolute"),
        ("cat\\1.png", "archive_path_invalid"),
        ("cat/pets\\1.png", "archive_path_invalid"),
    ],
)
def test_a_name_that_leads_elsewhere(name: str, code: str) -> None:
    refused(zipped({"cat/0.png": b"x", name: b"x"}), code, name)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK, stat.S_IFDIR])
def test_a_member_that_is_no_file(kind: int) -> None:
    refused(
        zipped([(special("cat/1.png", kind | 0o777), b"/etc/passwd")]), "archive_not_regular", "cat/1.png"
    )


def test_a_member_twice() -> None:
    with warnings.catch_warnings(action="ignore"):
        file = zipped([("cat/1.png", b"x"), ("cat/1.png", b"y")])
    refused(file, "archive_duplicate_name", "cat/1.png")


def test_an_encrypted_member() -> None:
    refused(patched(zipped({"cat/1.png": b"x"}), *FLAGS, 1), "archive_encrypted", "cat/1.png")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_compression_that_is_not_read(method: int) -> None:
    refused(zipped({"cat/1.png": b"x"}, method), "archive_compression", "cat/1.png")
    refused(patched(zipped({"cat/1.png": b"x"}), *METHOD, 9), "archive_compression", "cat/1.png")


@pytest.mark.parametrize("said", [1, 40_000_000])
def test_a_member_that_unpacks_to_another_size(said: int) -> None:
    data = bytes(range(256)) * 100
    file = patched(zipped({"cat/1.png": data}, zipfile.ZIP_STORED), *UNPACKED, said % 2**20)
    refused(file, "archive_size_lie", "cat/1.png")
    refused(patched(zipped({"cat/1.png": data}), *UNPACKED, said % 2**20), "archive_size_lie", "cat/1.png")


def test_bombs_are_refused_before_they_are_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    zeros = zipped({"cat/1.png": bytes(20 << 20)})
    assert len(zeros.getvalue()) < 30_000
    refused(zeros, "archive_ratio")
    refused(patched(zipped({"cat/1.png": b"x"}), *UNPACKED, 0xFFFFFFF0), "archive_ratio")
    monkeypatch.setattr(archive, "MAX_UNPACKED", 1_000)
    assert refused(zipped({"cat/1.png": bytes(1_001)}), "archive_too_large").limit == 1_000


def test_too_many_members(monkeypatch: pytest.MonkeyPatch) -> None:
    file = zipped({f"cat/{index}.png": b"" for index in range(30)})
    monkeypatch.setattr(archive, "_DIRECTORY_BYTES", 1_000)
    refused(file, "archive_too_many_members")
    monkeypatch.undo()
    monkeypatch.setattr(archive, "MAX_MEMBERS", 29)
    assert refused(file, "archive_too_many_members").limit == 29


def test_a_truncated_or_damaged_archive() -> None:
    data = zipped({f"cat/{index}.png": picture(index) for index in range(5)}).getvalue()
    for cut in (1, 30, len(data) // 2, len(data) - 1):
        code = "archive_damaged" if cut > 1 else "not_an_archive"
        refused(io.BytesIO(data[:cut]), code)
    broken = bytearray(data)
    broken[60:70] = b"\xff" * 10
    assert refused(io.BytesIO(bytes(broken)), "archive_damaged", "cat/0.png").detail
    refused(io.BytesIO(b"%PDF-1.7 and more of it" * 10), "not_an_archive")


def test_every_cut_and_every_flipped_byte_is_an_answer() -> None:
    data = zipped({"cat/1.png": picture(), "dog/1.png": picture(3)}).getvalue()
    for index in range(len(data)):
        for hostile in (data[:index], data[:index] + bytes([data[index] ^ 0xFF]) + data[index + 1 :]):
            with contextlib.suppress(DatasetFileError):
                read_all(io.BytesIO(hostile))


LEFTOVERS = (
    ".DS_Store",
    "cat/.DS_Store",
    "cat/._1.png",
    "__MACOSX/cat/._1.png",
    "__MACOSX/._cat",
    "cat/Thumbs.db",
    "cat/thumbs.db",
    "cat/ehthumbs.db",
    "cat/desktop.ini",
    "cat/Desktop.ini",
    "cat/Icon\r",
    "cat/.gitkeep",
    ".gitignore",
    ".gitattributes",
    ".git/objects/aa/1.png",
    ".github/workflows/ci.yml",
    ".ipynb_checkpoints/1-checkpoint.png",
    "cat/.ipynb_checkpoints/1-checkpoint.png",
    "cat/@eaDir/1.png/SYNOPHOTO_THUMB_S.jpg",
    "cat/#recycle/1.png",
    ".Trash-1000/files/1.png",
    "$RECYCLE.BIN/1.png",
    "System Volume Information/x",
    "cat/.1.png.swp",
    "cat/1.png~",
    "cat/README.md",
    "cat/LICENSE",
    "__pycache__/x.pyc",
)


@pytest.mark.parametrize("name", LEFTOVERS)
def test_a_leftover_is_left_out_and_named(name: str) -> None:
    found = Archive(zipped({"cat/": b"", "cat/1.png": b"x", name: b"x"}))
    assert [member.filename for member in found.files] == ["cat/1.png"]
    assert found.folders == ["cat"]
    assert found.left_out == [name]


@pytest.mark.parametrize("name", ["README/1.png", "Icon/1.png", ".net/1.png", "git/1.png", "thumbs.db/1.png"])
def test_a_class_is_no_leftover(name: str) -> None:
    assert [member.filename for member in Archive(zipped({name: b"x"})).files] == [name]


def test_a_folder_of_resource_forks_is_a_leftover_unless_it_holds_files() -> None:
    forks = Archive(
        zipped({"__MACOSX/": b"", "__MACOSX/cat/": b"", "__MACOSX/cat/._1.png": b"", "cat/": b""})
    )
    assert (forks.files, forks.folders) == ([], ["cat"])
    pictures = Archive(zipped({"__MACOSX/": b"", "__MACOSX/._1.png": b"", "__MACOSX/1.png": b"x"}))
    assert [member.filename for member in pictures.files] == ["__MACOSX/1.png"]
    assert pictures.folders == ["__MACOSX"]


@pytest.mark.parametrize(
    ("names", "paths"),
    [
        (["./cat/1.png", "cat/./2.png", "cat//3.png", "./"], ["cat/1.png", "cat/2.png", "cat/3.png"]),
        (["cat\\1.png", "dog\\1.png"], ["cat/1.png", "dog/1.png"]),
        (["a\\b/1.png", "c/1.png"], ["a\\b/1.png", "c/1.png"]),
        (["C: drive/1.png", "C:x/1.png"], ["C: drive/1.png", "C:x/1.png"]),
    ],
)
def test_names_become_paths(names: list[str], paths: list[str]) -> None:
    assert [member.filename for member in Archive(zipped(dict.fromkeys(names, b"x"))).files] == paths


@pytest.mark.parametrize("names", [["cat\\1.png", "dog/1.png"], ["cat\\", "cat\\1.png", "dog/1.png"]])
def test_backslashes_of_windows_part_folders(names: list[str]) -> None:
    members = []
    for name in names:
        info = zipfile.ZipInfo(name)
        info.create_system = 0
        members.append((info, b"x" if name.endswith("png") else b""))
    found = Archive(zipped(members))
    assert [member.filename for member in found.files] == ["cat/1.png", "dog/1.png"]
    read_all(zipped(members))


@pytest.mark.parametrize("label", ["\u00c4pfel", "A\u0308pfel", "\u6f22\u5b57", "\u0440\u0443\u0441"])
def test_names_in_utf8_without_the_flag(label: str) -> None:
    file = unflagged(zipped({f"{label}/1.png": b"x"}))
    assert zipfile.ZipFile(file).namelist() != [f"{label}/1.png"]
    found = Archive(file)
    assert [member.filename for member in found.files] == [f"{label}/1.png"]
    assert found.read(found.files[0]) == b"x"


@pytest.mark.parametrize("code_page", ["cp437", "cp850", "cp1252", "cp932", "cp866"])
def test_names_in_a_code_page_are_refused_with_advice(code_page: str) -> None:
    name = {"cp932": "\u6f22/1.png", "cp866": "\u0440/1.png"}.get(code_page, "\u00c4/1.png").encode(code_page)
    file = in_code_page(name)
    error = refused(file, "archive_name_encoding", name.decode("cp437"))
    assert "UTF-8" in error.detail


def test_the_unicode_name_of_info_zip_counts() -> None:
    raw, name = "\u00c4/1.png".encode("cp850"), "\u00c4/1.png"
    field = struct.pack("<BL", 1, zlib.crc32(raw)) + name.encode()
    extra = struct.pack("<HH", 0x7075, len(field)) + field
    assert [member.filename for member in Archive(in_code_page(raw, extra)).files] == [name]
    stale = struct.pack("<HH", 0x7075, len(field)) + struct.pack("<BL", 1, 7) + name.encode()
    refused(in_code_page(raw, stale), "archive_name_encoding", raw.decode("cp437"))
