"""What an archive from a stranger may not be, and the code that says so."""

from __future__ import annotations

import contextlib
import io
import stat
import warnings
import zipfile

import pytest

from models.data import archive
from models.data.archive import Archive
from models.data.errors import DatasetFileError
from tests.models.data.archives import FLAGS, METHOD, UNPACKED, patched, picture, special, zipped


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


def test_what_macos_and_windows_put_in_is_left_out() -> None:
    junk = {"__MACOSX/cat/._1.png": b"", "cat/.DS_Store": b"", "cat/Thumbs.db": b"", "cat/._1.png": b""}
    found = Archive(zipped({**junk, "__MACOSX/": b"", "cat/": b"", "cat/1.png": b"x"}))
    assert [member.filename for member in found.files] == ["cat/1.png"]
    assert found.folders == ["cat"]
