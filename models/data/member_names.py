r"""Names of zip members as paths: decoded, parted by slashes, and refused if they lead elsewhere.

The format has one flag, for UTF-8. Many programs write UTF-8 without it, and others the code page of their machine,
which no reader can know. Old programs on Windows part folders by backslashes, which Unix allows within a name.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Sequence
from zipfile import ZipInfo

from hyperserve.leftovers import is_leftover
from models.data.errors import DatasetFileError

_UTF8_FLAG = 0x800
_UNICODE_PATH = 0x7075
"""Extra field of Info-ZIP: the name in UTF-8."""
_UNIX = (3, 19)
"""Systems, as an archive names them, on which a backslash may be part of a name: Unix and macOS."""
_FOLDER_ATTRIBUTE = 0x10
_DRIVE = re.compile(r"[A-Za-z]:[/\\]")


def normalise(members: Sequence[ZipInfo]) -> None:
    """Set `filename` of each member to its path: names parted by single slashes, with one at the end of a folder.

    Raises `DatasetFileError`: archive_name_encoding, archive_path_absolute, archive_path_escapes,
    archive_path_invalid.
    """
    names = [_decoded(member) for member in members]
    slashes = any("/" in name for name in names)
    for member, name in zip(members, names, strict=True):
        _check(name)
        if "\\" in name and "/" not in name and (member.create_system not in _UNIX or not slashes):
            name = name.replace("\\", "/")
        folders, _, last = name.rpartition("/")
        if "\\" in last:
            detail = "The name mixes slashes and backslashes; part folders and files by slashes."
            raise DatasetFileError("archive_path_invalid", detail, name)
        parts = [part for part in (*folders.split("/"), last) if part not in ("", ".")]
        is_folder = not last or (member.file_size == 0 and bool(member.external_attr & _FOLDER_ATTRIBUTE))
        member.filename = "/".join(parts) + "/" * is_folder


def _decoded(member: ZipInfo) -> str:
    name = member.orig_filename
    if member.flag_bits & _UTF8_FLAG or name.isascii():
        return name
    raw = name.encode("cp437")  # As `zipfile` decoded it.
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        if (found := _unicode_path(member.extra, raw)) is not None:
            return found
        if is_leftover(name.split("/")):
            return name
        detail = (
            "The name is not in UTF-8, and the archive does not tell its code page. Make the archive again with "
            "names in UTF-8 (7-Zip: parameter cu=on), or let the Python client upload the folder."
        )
        raise DatasetFileError("archive_name_encoding", detail, name) from error


def _unicode_path(extra: bytes, raw: bytes) -> str | None:
    """Return the name of Info-ZIP's extra field if it belongs to this name."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        field, extra = extra[4 : 4 + length], extra[4 + length :]
        if kind == _UNICODE_PATH and len(field) > 5 and field[0] == 1:
            if struct.unpack_from("<L", field, 1)[0] != zlib.crc32(raw):
                return None
            try:
                return field[5:].decode()
            except UnicodeDecodeError:
                return None
    return None


def _check(name: str) -> None:
    parts = re.split(r"[/\\]", name)
    if not parts[0] or _DRIVE.match(name):
        raise DatasetFileError("archive_path_absolute", "The name of the member is an absolute path.", name)
    if ".." in parts:
        raise DatasetFileError(
            "archive_path_escapes", "The name of the member leads out of its folder.", name
        )
    if "\0" in name:
        raise DatasetFileError("archive_path_invalid", "The name of the member holds a NUL character.", name)
