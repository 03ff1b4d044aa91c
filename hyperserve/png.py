"""Minimal PNG writer for 8-bit pixels (ISO/IEC 15948), so that sending an array needs no image library."""

from __future__ import annotations

import struct
import zlib

from hyperserve.errors import InvalidArgumentError

COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
"""PNG colour type by number of channels: grey, grey + alpha, RGB, RGBA."""


def encode(pixels: bytes, width: int, height: int, channels: int) -> bytes:
    """Return `pixels`, rows from the top with `channels` bytes per pixel, as a PNG. Raises InvalidArgumentError."""
    stride = width * channels
    if not stride or not height or len(pixels) != stride * height:
        raise InvalidArgumentError(
            f"{len(pixels)} bytes do not make an image of {width} × {height} × {channels}"
        )
    # Each row starts with its filter type; 0 is none.
    rows = b"".join(b"\0" + pixels[start : start + stride] for start in range(0, len(pixels), stride))
    header = struct.pack(">IIBBBBB", width, height, 8, COLOUR_TYPES[channels], 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", zlib.compress(rows))
        + _chunk(b"IEND", b"")
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
