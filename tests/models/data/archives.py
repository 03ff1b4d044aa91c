"""Zips made here, honest and hostile."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Iterable, Mapping

from PIL import Image, ImageDraw


def picture(tilt: int = 0, size: int = 24) -> bytes:
    """A PNG of one stroke."""
    image = Image.new("L", (size, size), 255)
    ImageDraw.Draw(image).line([(3, 3 + tilt), (size - 4, size - 4 - tilt)], fill=0, width=2)
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


def folders(classes: int = 3, examples: int = 2, root: str = "") -> dict[str, bytes]:
    """Members of an archive of class folders."""
    return {
        f"{root}class-{index}/{example}.png": picture(3 * index + example)
        for index in range(classes)
        for example in range(examples)
    }


def zipped(
    members: Mapping[str, bytes] | Iterable[tuple[str | zipfile.ZipInfo, bytes]],
    method: int = zipfile.ZIP_DEFLATED,
) -> io.BytesIO:
    """In the order given; pairs may name a member twice."""
    pairs = members.items() if isinstance(members, Mapping) else members
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in pairs:
            archive.writestr(name, data, None if isinstance(name, str) else name.compress_type)
    return file


def special(name: str, mode: int) -> zipfile.ZipInfo:
    """A member of a kind: a link, a device."""
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = mode << 16
    return info


def patched(file: io.BytesIO, offset: int, form: str, value: int) -> io.BytesIO:
    """With another number in the directory entry of the first member, `offset` bytes into it."""
    data = bytearray(file.getvalue())
    struct.pack_into(form, data, data.index(b"PK\x01\x02") + offset, value)
    return io.BytesIO(bytes(data))


def unflagged(file: io.BytesIO) -> io.BytesIO:
    """Return an archive without the flag of names in UTF-8, as `zip -r`, Finder and bsdtar write it."""
    data = bytearray(file.getvalue())
    with zipfile.ZipFile(file) as archive:
        headers = [(member.header_offset, b"PK\x03\x04", 6) for member in archive.infolist()]
        position = archive.start_dir
        for member in archive.infolist():
            headers.append((position, b"PK\x01\x02", 8))
            position += 46 + len(member.orig_filename.encode()) + len(member.extra) + len(member.comment)
    for start, signature, offset in headers:
        assert data[start : start + 4] == signature
        (flags,) = struct.unpack_from("<H", data, start + offset)
        struct.pack_into("<H", data, start + offset, flags & ~0x800)
    return io.BytesIO(bytes(data))


def in_code_page(name: bytes, extra: bytes = b"") -> io.BytesIO:
    """Return an archive of one member, whose name has these bytes."""
    info = zipfile.ZipInfo("x" * len(name))
    info.extra = extra
    return io.BytesIO(zipped([(info, b"x")]).getvalue().replace(b"x" * len(name), name))


FLAGS, METHOD, UNPACKED = (8, "<H"), (10, "<H"), (24, "<L")
"""Places in a directory entry."""
