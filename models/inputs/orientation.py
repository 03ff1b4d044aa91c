"""Orientation of a picture by its EXIF or XMP metadata, without Pillow's reader.

Pillow reads every entry of a directory, each as long as the file: 65,535 entries of 1 MB on one place are 65 GB.
"""

from __future__ import annotations

import re
import struct

from PIL import Image

_TAG = 0x0112
_ENTRY = 12
_INTEGERS = {1: "B", 3: "H", 4: "I"}
"""Types of a TIFF entry that hold an unsigned number: BYTE, SHORT, LONG."""
_PREFIX = re.compile(rb"\A(?:Exif\0\0){1,2}")
_XMP = re.compile(rb"tiff:Orientation(?:=\"|>)([0-9])")
_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def upright(exif: bytes | None, xmp: bytes | None) -> Image.Transpose | None:
    """Return what turns the picture upright, None if it is or if the metadata are damaged."""
    number = _exif_orientation(_PREFIX.sub(b"", exif)) if exif else None
    if number is None and xmp and (match := _XMP.search(xmp)):
        number = int(match[1])
    return None if number is None else _TRANSPOSES.get(number)


def _exif_orientation(tiff: bytes) -> int | None:
    """Return the orientation of the first directory; None without one."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None or len(tiff) < 8:
        return None
    (start,) = struct.unpack_from(f"{order}I", tiff, 4)
    if start + 2 > len(tiff):
        return None
    (count,) = struct.unpack_from(f"{order}H", tiff, start)
    entries = tiff[start + 2 : start + 2 + count * _ENTRY]
    found = None
    for tag, kind, values, value in struct.iter_unpack(
        f"{order}HHI4s", entries[: len(entries) // _ENTRY * _ENTRY]
    ):
        if tag == _TAG and values == 1 and kind in _INTEGERS:
            (found,) = struct.unpack_from(order + _INTEGERS[kind], value)
    return found
