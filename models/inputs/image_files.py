"""Image files cut down to what their pixels need, before any decoder sees them.

Pillow reads chunks, segments and blocks one by one in Python, holding the interpreter, and decodes run-length BMPs
there: a few kB of hostile structure take minutes. What is left here is read in C, and its work is bounded.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass, replace
from typing import Literal

from models.inputs.raw import InputError

Format = Literal["PNG", "JPEG", "WEBP", "GIF", "BMP"]

MAX_PARTS = 20_000
"""Chunks, segments or blocks of one file: a picture of 20 MB in pieces of 1 kB."""
MAX_SCANS = 100
MAX_SCANNED_PIXELS = 500_000_000
"""Scans × pixels of a progressive JPEG: each scan goes over all of the picture again."""
_MAX_TEXT = 1 << 20
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_PIXELS = frozenset({b"IHDR", b"PLTE", b"tRNS"})
_PNG_TEXTS = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0")
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff]")
_JPEG_SCAN_END = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_JPEG_ALONE = frozenset((0x01, *range(0xD0, 0xDA)))
"""Markers without a length."""
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SOS, _EOI, _COM, _APP1, _ADOBE = 0xDA, 0xD9, 0xFE, 0xE1, 0xEE
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_GIF_BLOCK = re.compile(rb"[!,;]")
_GRAPHIC_CONTROL = 0xF9
_BMP_UNCOMPRESSED = frozenset({0, 3})


@dataclass(frozen=True)
class ReducedImage:
    """The bytes to decode, and what was taken out of them that orientation needs."""

    format: Format
    data: bytes
    exif: bytes | None = None
    xmp: bytes | None = None
    ends_early: bool = False
    """A JPEG whose scans are all there, but not its end marker."""


def reduced(data: bytes, format: Format, *, header_only: bool = False) -> ReducedImage:
    """Return a file without what its first picture does not need; with `header_only` its scans are not looked at.

    Raises `InputError`: unsupported_image_format for a compressed BMP, image_too_complex, truncated_image.
    """
    match format:
        case "PNG":
            return _png(data)
        case "JPEG":
            return _jpeg(data, header_only)
        case "GIF":
            return ReducedImage(format, _gif(data))
        case "BMP":
            _check_bmp(data)
        case "WEBP":
            pass
    return ReducedImage(format, data)


def webp_size(data: bytes) -> tuple[int, int]:
    """Return width and height by the first chunk; (0, 0) if it has none. Pillow allocates before it is asked."""
    kind, start = data[12:16], data[20:30]
    if len(start) < 10:
        return 0, 0
    if kind == b"VP8X":
        return 1 + int.from_bytes(start[4:7], "little"), 1 + int.from_bytes(start[7:10], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(start[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return int.from_bytes(start[6:8], "little") & 0x3FFF, int.from_bytes(start[8:10], "little") & 0x3FFF


def damaged(format: Format) -> InputError:
    return InputError("truncated_image", f"The {format} image is cut off or damaged.")


def _too_complex(detail: str, limit: int) -> InputError:
    return InputError("image_too_complex", detail, limit)


def _too_many(parts: str) -> InputError:
    return _too_complex(f"The image has more than {MAX_PARTS} {parts}; save it anew.", MAX_PARTS)


def _check_bmp(data: bytes) -> None:
    """Raise `InputError` for a BMP whose pixels are compressed. Headers of 12 bytes know no compression."""
    size = int.from_bytes(data[14:18], "little")
    if size > 12 and int.from_bytes(data[30:34], "little") not in _BMP_UNCOMPRESSED:
        raise InputError(
            "unsupported_image_format", "A compressed BMP is not read; save it uncompressed, or as PNG."
        )


def _png(data: bytes) -> ReducedImage:
    """Keep header, palette, transparency and the pixels, those in one chunk."""
    head, pixels = [_PNG_SIGNATURE], list[bytes]()
    texts: dict[bytes, bytes] = {}
    exif, position, count, last = None, len(_PNG_SIGNATURE), 0, b""
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        start, end = position + 8, position + 12 + length
        if count == MAX_PARTS:
            raise _too_many("chunks")
        if kind == b"IDAT" and (last == b"IDAT" or not pixels):
            pixels.append(data[start : start + length])
        elif end > len(data) or kind == b"IEND":
            break
        elif kind in _PNG_PIXELS and not pixels:
            head.append(data[position:end])
        elif kind == b"eXIf":
            exif = data[start : end - 4]
        elif kind in (b"iTXt", b"tEXt", b"zTXt"):
            name = next((name for name in _PNG_TEXTS if data.startswith(name, start)), None)
            if name is not None and name not in texts:
                texts[name] = _png_text(kind, data[start + len(name) : end - 4])
        position, count, last = end, count + 1, kind
    if exif is None and (profile := texts.get(_PNG_TEXTS[1])):
        exif = _hexadecimal(profile)
    body = b"".join(pixels)
    file = (*head, _png_chunk(b"IDAT", body), _png_chunk(b"IEND", b""))
    return ReducedImage("PNG", b"".join(file), exif, texts.get(_PNG_TEXTS[0]))


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))


def _png_text(kind: bytes, body: bytes) -> bytes:
    """Return the text behind its name; at most 1 MB of a compressed one, nothing if it is damaged."""
    compressed, text = kind == b"zTXt", body
    if kind == b"zTXt":
        text = body[1:]
    elif kind == b"iTXt":
        compressed, text = body[:1] == b"\1", b"\0".join(body[2:].split(b"\0", 2)[2:])
    if not compressed:
        return text[:_MAX_TEXT]
    try:
        return zlib.decompressobj().decompress(text, _MAX_TEXT)
    except zlib.error:
        return b""


def _hexadecimal(profile: bytes) -> bytes | None:
    """Return the bytes of ImageMagick's raw profile: a blank line, its name, its length, hexadecimal digits."""
    try:
        return bytes.fromhex(b"".join(profile.split(b"\n")[3:]).decode("ascii"))
    except ValueError:
        return None


def _gif(data: bytes) -> bytes:
    """Keep the header and, from the first picture on, everything: no later frame is ever looked at."""
    position = 13 + (3 << (data[10] & 7) + 1 if len(data) > 10 and data[10] & 0x80 else 0)
    kept, blocks = [data[:position]], 0
    while match := _GIF_BLOCK.search(data, position):
        start, position = match.start(), match.end()
        if match[0] == b",":
            return b"".join((*kept, data[start:]))
        if match[0] == b";" or position >= len(data):
            break
        position += 1
        while position < len(data) and (length := data[position]):
            position, blocks = position + 1 + length, blocks + 1
            if blocks > MAX_PARTS:
                raise _too_many("blocks before its first picture")
        position, blocks = position + 1, blocks + 1
        if blocks > MAX_PARTS:
            raise _too_many("blocks before its first picture")
        if data[start + 1] == _GRAPHIC_CONTROL:
            kept.append(data[start:position])
    raise damaged("GIF")


@dataclass(frozen=True)
class _Segment:
    code: int
    start: int
    """Place of the marker."""
    body: bytes
    end: int


def _segment(data: bytes, marker: re.Match[bytes]) -> _Segment:
    """Return the segment of a marker. Raises `InputError` if the file ends within it."""
    code, start, end = data[marker.end() - 1], marker.start(), marker.end()
    if code in _JPEG_ALONE:
        return _Segment(code, start, b"", end)
    length = int.from_bytes(data[end : end + 2], "big")
    if length < 2 or end + length > len(data):
        raise damaged("JPEG")
    return _Segment(code, start, data[end + 2 : end + length], end + length)


def _jpeg(data: bytes, header_only: bool) -> ReducedImage:
    """Keep tables, frame and scans, and what says how colours are stored."""
    kept, position, frame = [data[:2]], 2, None
    file = ReducedImage("JPEG", b"")
    for _ in range(MAX_PARTS):
        marker = _JPEG_MARKER.search(data, position)
        if marker is None:
            raise damaged("JPEG")
        segment = _segment(data, marker)
        if segment.code == _SOS:
            if frame is None:
                raise damaged("JPEG")
            end, whole = (len(data), True) if header_only else _scans(data, segment.start, frame)
            kept.append(data[segment.start : end])
            return replace(file, data=b"".join(kept), ends_early=not whole)
        if segment.code in _JPEG_FRAMES:
            frame = segment
        file = _with_metadata(file, segment)
        if not (segment.code == _COM or 0xE1 <= segment.code <= 0xEF) or segment.code == _ADOBE:
            kept.append(data[segment.start : segment.end])
        position = segment.end
    raise _too_many("segments")


def _with_metadata(file: ReducedImage, segment: _Segment) -> ReducedImage:
    if segment.code == _APP1 and segment.body.startswith(b"Exif\0\0") and file.exif is None:
        return replace(file, exif=segment.body)
    if segment.code == _APP1 and segment.body.startswith(_XMP) and file.xmp is None:
        return replace(file, xmp=segment.body)
    return file


def _scans(data: bytes, position: int, frame: _Segment) -> tuple[int, bool]:
    """Return where the picture ends, and whether its end marker is there. Raises `InputError`.

    Without the marker every coefficient must at least have come in some scan: what is missing then is no whole scan.
    """
    if len(frame.body) < 6:
        raise damaged("JPEG")
    pixels = int.from_bytes(frame.body[1:3], "big") * int.from_bytes(frame.body[3:5], "big")
    most = min(MAX_SCANS, max(1, MAX_SCANNED_PIXELS // max(1, pixels)))
    missing = {(part, k): 1 for part in frame.body[6::3] for k in range(64)}
    scans = 0
    for _ in range(MAX_PARTS):
        marker = _JPEG_SCAN_END.search(data, position)
        if marker is None:
            if any(missing.values()):
                raise damaged("JPEG")
            return len(data) - data.endswith(b"\xff"), False
        segment = _segment(data, marker)
        if segment.code == _EOI:
            return segment.end, True
        if segment.code == _SOS:
            scans += 1
            if scans > most:
                detail = f"The JPEG has more than {most} scans; save it as an ordinary JPEG, or as PNG."
                raise _too_complex(detail, most)
            missing |= _scanned(segment.body)
        position = segment.end
    raise _too_many("segments")


def _scanned(header: bytes) -> dict[tuple[int, int], int]:
    """Return the coefficients that a scan brings, by component, with the number of bits that it leaves out."""
    count = header[0] if header else 0
    if len(header) < 4 + 2 * count:
        raise damaged("JPEG")
    first, last, bits = header[1 + 2 * count : 4 + 2 * count]
    return {
        (part, k): bits & 15
        for part in header[1 : 1 + 2 * count : 2]
        for k in range(first, min(last, 63) + 1)
    }
