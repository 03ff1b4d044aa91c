"""Zip archives from strangers: checked as a whole before any member is read, and never unpacked to paths.

The directory of an archive (names, sizes, kinds of members) is checked first; sizes are checked again while a member is
read, one at a time.
"""

from __future__ import annotations

import copy
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from zipfile import ZipExtFile, ZipInfo

from hyperserve.leftovers import RESOURCE_FORKS, is_leftover
from models.data import member_names
from models.data.errors import DatasetFileError

MAX_MEMBERS = 500_000
MAX_UNPACKED = 4 << 30
MAX_RATIO = 100
"""Unpacked bytes for each byte of the archive."""
_FREE_BYTES = 16 << 20
"""Unpacked bytes that may have any ratio: a few blank pictures compress well."""
_DIRECTORY_BYTES = 64 << 20
_DIRECTORY_SIZE = 5
"""Position of the directory's size in the record that `zipfile` reads from the end of an archive."""
_ENCRYPTED = 0x41
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, ValueError)
"""Exceptions that `zipfile` raises on archives that are cut off or damaged."""
_CHUNK = 1 << 20


class Archive:
    """Members of a zip in place. `files` and `folders` are without leftovers of file managers and other programs."""

    def __init__(self, file: BufferedIOBase) -> None:
        """Check the whole directory. Raises `DatasetFileError` naming the first member that is refused."""
        self._zip = _opened(file)
        members = self._zip.infolist()
        _check_size(members, _length(file))
        member_names.normalise(members)
        self.files: list[ZipInfo] = []
        self.left_out: list[str] = []
        """Names of files that are leftovers."""
        folders: list[str] = []
        for member in members:
            path = member.filename.removesuffix("/").split("/")
            if is_leftover(path, folder=member.is_dir()):
                self.left_out += [] if member.is_dir() else [member.filename]
                continue
            _check_kind(member)
            if member.is_dir():
                folders.append(member.filename.removesuffix("/"))
            else:
                self.files.append(member)
        _check_duplicates(self.files)
        self.folders = [folder for folder in folders if folder and not self._is_resource_forks(folder)]

    def _is_resource_forks(self, folder: str) -> bool:
        """Return True for Finder's folder of resource forks, all of which are leftovers."""
        return RESOURCE_FORKS in folder.split("/") and not any(
            member.filename.startswith(f"{folder}/") for member in self.files
        )

    @contextmanager
    def open(self, member: ZipInfo) -> Iterator[ZipExtFile]:
        """Open a stream, which may hold more than the size of the member says; `finish` checks."""
        longer = copy.copy(member)
        longer.file_size += _CHUNK
        try:
            with self._zip.open(longer) as stream:
                assert isinstance(stream, ZipExtFile)
                yield stream
        except _DAMAGED as error:
            if isinstance(error, DatasetFileError):
                raise
            detail = "The member is cut off or damaged."
            raise DatasetFileError("archive_damaged", detail, member.filename) from error

    def read(self, member: ZipInfo) -> bytes:
        """Read all of one member, whose size the caller has checked."""
        with self.open(member) as stream:
            data = stream.read(member.file_size)
            finish(stream, member, len(data))
        return data


def finish(stream: ZipExtFile, member: ZipInfo, read: int) -> None:
    """Check that the member ends here, as its size says, after all is read. Raises `DatasetFileError`."""
    if read < member.file_size or stream.read(1):
        detail = "The member unpacks to another size than the archive says."
        raise DatasetFileError("archive_size_lie", detail, member.filename, member.file_size)


def chunks(stream: ZipExtFile, member: ZipInfo, read: int = 0) -> Iterator[bytes]:
    """Yield the rest of a member, of which `read` bytes are read already."""
    while read < member.file_size and (data := stream.read(min(_CHUNK, member.file_size - read))):
        read += len(data)
        yield data
    finish(stream, member, read)


def _opened(file: BufferedIOBase) -> zipfile.ZipFile:
    # Before `ZipFile` makes an object of every entry: a directory alone can fill the memory.
    try:
        end = zipfile._EndRecData(file)  # type: ignore[attr-defined]
    except _DAMAGED:
        end = None
    if end is None:
        file.seek(0)
        if file.read(2) == b"PK":
            raise DatasetFileError("archive_damaged", "The archive is cut off: its directory is missing.")
        raise DatasetFileError("not_an_archive", "The file is not a zip archive.")
    if end[_DIRECTORY_SIZE] > _DIRECTORY_BYTES:
        raise _too_many()
    try:
        return zipfile.ZipFile(file)
    except _DAMAGED as error:
        detail = "The directory of the archive is cut off or damaged."
        raise DatasetFileError("archive_damaged", detail) from error


def _check_size(members: list[ZipInfo], packed: int) -> None:
    if len(members) > MAX_MEMBERS:
        raise _too_many()
    unpacked = sum(member.file_size for member in members)
    if unpacked > MAX_UNPACKED:
        detail = f"The members unpack to more than {MAX_UNPACKED} bytes."
        raise DatasetFileError("archive_too_large", detail, limit=MAX_UNPACKED)
    if unpacked > _FREE_BYTES and unpacked > MAX_RATIO * packed:
        detail = f"The members unpack to more than {MAX_RATIO} times the size of the archive."
        raise DatasetFileError("archive_ratio", detail, limit=MAX_RATIO)


def _check_duplicates(files: list[ZipInfo]) -> None:
    seen: set[str] = set()
    for member in files:
        if member.filename in seen:
            raise DatasetFileError("archive_duplicate_name", "Two members have this name.", member.filename)
        seen.add(member.filename)


def _check_kind(member: ZipInfo) -> None:
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFDIR if member.is_dir() else stat.S_IFREG):
        detail = "Links, devices and other special members are refused."
        raise DatasetFileError("archive_not_regular", detail, member.filename)
    if member.flag_bits & _ENCRYPTED:
        raise DatasetFileError("archive_encrypted", "The member is encrypted.", member.filename)
    if member.compress_type not in _METHODS:
        detail = "Members are stored or deflated; other compressions are not read."
        raise DatasetFileError("archive_compression", detail, member.filename)


def _too_many() -> DatasetFileError:
    detail = f"The archive has more than {MAX_MEMBERS} members."
    return DatasetFileError("archive_too_many_members", detail, limit=MAX_MEMBERS)


def _length(file: BufferedIOBase) -> int:
    return file.seek(0, 2)
