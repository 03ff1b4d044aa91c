"""Image files that are small to send and long to decode, by any reader that takes them as they come."""

from __future__ import annotations

import struct
import zlib
from functools import cache

from models.inputs.image import MAX_BYTES
from tests.models.inputs.pictures import drawing, encoded, png_chunk

_PNG = encoded(drawing(), "PNG")
_JPEG = encoded(drawing(), "JPEG")
_GIF = encoded(drawing(), "GIF")
_WEBP = encoded(drawing(), "WEBP", lossless=True)
_ROOM = MAX_BYTES - 100_000


def bmp(width: int, height: int, pixels: bytes, *, bits: int, compression: int, header: int = 40) -> bytes:
    palette = bytes(range(256)) * 4 if bits == 8 else bytes(64)
    offset = 14 + header + len(palette)
    start = struct.pack("<2sIHHI", b"BM", offset + len(pixels), 0, 0, offset)
    fields = (header, width, height, 1, bits, compression, len(pixels), 1, 1, len(palette) // 4, 0)
    return start + struct.pack("<IiiHHIIiiII", *fields) + bytes(header - 40) + palette + pixels


def rle_bmps() -> dict[str, bytes]:
    lines = bmp(40_000_000, 1, b"\x01\x05\0\0\0\x01", bits=8, compression=1)
    runs = bmp(16, 16, b"\xff\x05" * (_ROOM // 2), bits=8, compression=1)
    return {
        "one run and an end of line": lines,
        "runs that say nothing": runs,
        "four bits": bmp(40_000_000, 1, b"\x01\x05\0\0\0\x01", bits=4, compression=2),
        "a newer header": bmp(16, 16, b"\xff\x05" * 99, bits=8, compression=1, header=124),
        "an older header": bmp(16, 16, b"\xff\x05" * 99, bits=8, compression=1, header=64),
        "a PNG inside": bmp(60, 40, _PNG, bits=8, compression=5),
        "a JPEG inside": bmp(60, 40, _JPEG, bits=8, compression=4),
        "an unknown compression": bmp(16, 16, bytes(256), bits=8, compression=77),
    }


def progressive(side: int, scans: int) -> bytes:
    """A grey JPEG whose scans each go over all blocks and say nothing."""
    blocks = ((side + 7) // 8) ** 2
    run = (1 << 14) + 0x2AAA
    bits = ("0" + format(0x2AAA, "014b")) * -(-blocks // run)
    bits += "1" * (-len(bits) % 8)
    empty = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    tables = _segment(0xDB, bytes([0, *[1] * 64]))
    tables += _segment(0xC2, struct.pack(">BHHB", 8, side, side, 1) + bytes([1, 0x11, 0]))
    tables += _segment(0xC4, bytes([0x00, 1, *[0] * 15, 0])) + _segment(
        0xC4, bytes([0x10, 1, *[0] * 15, 0xE0])
    )
    first = _segment(0xDA, bytes([1, 1, 0, 0, 0, 0])) + bytes(-(-blocks // 8))
    coarse = _segment(0xDA, bytes([1, 1, 0, 1, 63, 0x01])) + empty
    finer = _segment(0xDA, bytes([1, 1, 0, 1, 63, 0x10])) + empty
    return b"\xff\xd8" + tables + first + coarse + finer * (scans - 2) + b"\xff\xd9"


def too_complex() -> dict[str, bytes]:
    """Files of which every part is valid, but which have too many."""
    comment = _segment(0xFE, b"")
    return {
        "jpeg of 200 scans": progressive(64, 200),
        "jpeg of few scans over many pixels": progressive(6320, 40),
        "jpeg of segments": _JPEG[:2] + comment * (_ROOM // len(comment)) + _JPEG[2:],
        "jpeg of segments between scans": _after_scan(comment),
        "png of chunks": _png_with(png_chunk(b"tEXt", b"") * (_ROOM // 12)),
        "png of empty pixel chunks": _png_with(png_chunk(b"IDAT", b"") * (_ROOM // 12)),
        "png of chunks at its end": _PNG[:-12] + png_chunk(b"tEXt", b"") * (_ROOM // 12) + _PNG[-12:],
        "gif of comments": _gif_with(b"!\xfe" + b"\x01x" * (_ROOM // 2) + b"\0"),
        "gif of extensions": _gif_with(b"!\xff\0" * (_ROOM // 3)),
    }


def harmless() -> dict[str, bytes]:
    """Files with a bomb in what their pixels do not need: they show the drawing all the same."""
    exif = b"Exif\0\0" + many_entries(60_000)
    return {
        "jpeg of padding": _JPEG[:2] + b"\xff" * _ROOM + _JPEG[2:],
        "jpeg of junk": _JPEG[:20] + bytes(_ROOM) + _JPEG[20:],
        "jpeg of escaped junk": _JPEG[:2] + b"\xff\0" * (_ROOM // 2) + _JPEG[2:],
        "jpeg of EXIF entries": _JPEG[:2] + _segment(0xE1, exif) + _JPEG[2:],
        "jpeg of much EXIF": _JPEG[:2] + _segment(0xE1, exif) * (_ROOM // (len(exif) + 4)) + _JPEG[2:],
        "jpeg of a picture after it": _JPEG + bytes(_ROOM),
        "jpeg of resources": _JPEG[:2] + _segment(0xED, b"Photoshop 3.0\0" + _resources()) * 300 + _JPEG[2:],
        "png of EXIF entries": _png_with(png_chunk(b"eXIf", many_entries(_ROOM))),
        "png of compressed text": _png_with(_text_bomb(b"zTXt", b"Comment\0\0") * 50),
        "png of compressed profiles": _png_with(_text_bomb(b"zTXt", b"Raw profile type exif\0\0") * 50),
        "png of compressed XMP": _png_with(_text_bomb(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0") * 50),
        "png of a colour profile": _png_with(_text_bomb(b"iCCP", b"icc\0\0")),
        "gif of junk": _gif_with(bytes(_ROOM)),
        "gif of many frames": _many_frames("GIF"),
        "webp of many frames": _many_frames("WEBP"),
        "webp of chunks": _webp_with(b"JUNK\0\0\0\0" * 2_000_000),
        "webp of EXIF entries": _webp_with(_riff_chunk(b"EXIF", many_entries(_ROOM)), flags=0x08),
    }


def many_entries(size: int) -> bytes:
    """TIFF data of `size` bytes whose first directory has many entries, each of them as long as all of it."""
    count = min(32_000, (size - 14) // 12)
    entry = b"".join(struct.pack("<HHII", tag, 7, size - 8, 8) for tag in range(0x8000, 0x8000 + count))
    head = b"II*\0" + struct.pack("<IH", 8, count)
    return (head + entry).ljust(size, b"\0")


def _segment(code: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, code, 2 + len(body)) + body


def _after_scan(segment: bytes) -> bytes:
    return _JPEG[:-2] + segment * (_ROOM // len(segment)) + _JPEG[-2:]


def _resources() -> bytes:
    return struct.pack(">4sHHI", b"8BIM", 1, 0, 0) * 5_000


def _png_with(chunks: bytes) -> bytes:
    place = _PNG.index(b"IDAT") - 4
    return _PNG[:place] + chunks + _PNG[place:]


@cache
def _much_in_little() -> bytes:
    return zlib.compress(bytes(100_000_000), 9)


def _text_bomb(kind: bytes, name: bytes) -> bytes:
    return png_chunk(kind, name + _much_in_little())


def _gif_with(blocks: bytes) -> bytes:
    place = 13 + (3 << (_GIF[10] & 7) + 1)
    return _GIF[:place] + blocks + _GIF[place:]


def _many_frames(kind: str) -> bytes:
    frames = [drawing().rotate(angle) for angle in range(1, 300)]
    return encoded(
        drawing(), kind, save_all=True, append_images=frames, **({"lossless": True} if kind == "WEBP" else {})
    )


def _riff_chunk(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def _webp_with(chunks: bytes, flags: int = 0) -> bytes:
    size = b"".join((side - 1).to_bytes(3, "little") for side in drawing().size)
    body = b"WEBP" + _riff_chunk(b"VP8X", bytes([flags, 0, 0, 0]) + size) + _WEBP[12:] + chunks
    return b"RIFF" + struct.pack("<I", len(body)) + body
