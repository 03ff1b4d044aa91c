"""One drawing, encoded in every way a client may send it."""

import io
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

WIDTH, HEIGHT = 60, 40
ORIENTATION_TAG = 0x0112


def drawing() -> Image.Image:
    """Grey, dark strokes on white, without any symmetry."""
    image = Image.new("L", (WIDTH, HEIGHT), 255)
    pen = ImageDraw.Draw(image)
    pen.line((10, 6, 48, 30), fill=0, width=5)
    pen.line((48, 6, 48, 34), fill=0, width=5)
    return image


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def png(width: int, height: int, bit_depth: int, colour: int, row: bytes, rows: int) -> bytes:
    """A PNG chunk by chunk, `rows` times the same row: for sizes and depths that Pillow does not write."""
    return png_of_rows(width, bit_depth, colour, [row] * rows, height)


def png_of_rows(
    width: int,
    bit_depth: int,
    colour: int,
    rows: Sequence[bytes],
    height: int | None = None,
    extra: bytes = b"",
) -> bytes:
    """A PNG of these rows; `extra` are chunks before the pixels."""
    header = struct.pack(
        ">IIBBBBB", width, len(rows) if height is None else height, bit_depth, colour, 0, 0, 0
    )
    packer = zlib.compressobj(9)
    body = b"".join([*(packer.compress(b"\0" + row) for row in rows), packer.flush()])
    chunks = png_chunk(b"IHDR", header) + extra + png_chunk(b"IDAT", body) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def transparent() -> Image.Image:
    """The strokes as black where there is paint, and black that nobody sees elsewhere."""
    alpha = Image.eval(drawing(), lambda grey: 255 - grey)
    return Image.merge("LA", (Image.new("L", alpha.size, 0), alpha))


def palette_with_transparency() -> bytes:
    indexed = Image.eval(drawing(), lambda grey: 0 if grey > 127 else 1)
    indexed = Image.frombytes("P", indexed.size, indexed.tobytes())
    indexed.putpalette([0, 0, 0, 0, 0, 0])
    return encoded(indexed, "PNG", transparency=0)


def sixteen_bits() -> bytes:
    return encoded(Image.fromarray(np.asarray(drawing()).astype(np.uint16) * 257), "PNG")


def lossless() -> dict[str, bytes]:
    grey = drawing()
    rgb = grey.convert("RGB")
    two = grey.point(lambda value: 255 if value > 127 else 0)
    return {
        "png grey": encoded(grey, "PNG"),
        "png rgb": encoded(rgb, "PNG"),
        "png rgba": encoded(rgb.convert("RGBA"), "PNG"),
        "png bilevel": encoded(two.convert("1"), "PNG"),
        "png palette": encoded(grey.convert("P"), "PNG"),
        "png palette, transparent": palette_with_transparency(),
        "png grey with alpha": encoded(transparent(), "PNG"),
        "png rgb with alpha": encoded(transparent().convert("RGBA"), "PNG"),
        "png 16 bits": sixteen_bits(),
        "webp lossless": encoded(rgb, "WEBP", lossless=True),
        "webp alpha": encoded(transparent().convert("RGBA"), "WEBP", lossless=True),
        "gif": encoded(grey, "GIF"),
        "gif animated": encoded(grey, "GIF", save_all=True, append_images=[grey.rotate(90)]),
        "bmp": encoded(rgb, "BMP"),
        "bmp bilevel": encoded(two.convert("1"), "BMP"),
        "inverted": encoded(grey.point(lambda value: 255 - value), "PNG"),
        "coloured": encoded(Image.merge("RGB", (grey, grey, Image.new("L", grey.size, 90))), "PNG"),
    }


def lossy() -> dict[str, bytes]:
    grey = drawing()
    return {
        "jpeg": encoded(grey.convert("RGB"), "JPEG", quality=95),
        "jpeg grey": encoded(grey, "JPEG", quality=95),
        "jpeg progressive": encoded(grey, "JPEG", quality=95, progressive=True),
        "jpeg cmyk": encoded(grey.convert("CMYK"), "JPEG", quality=95),
        "jpeg of two pictures": encoded(
            grey.convert("RGB"), "MPO", quality=95, save_all=True, append_images=[grey.convert("RGB")]
        ),
        "webp": encoded(grey.convert("RGB"), "WEBP", quality=95),
    }


def rotated(orientation: int, kind: str) -> bytes:
    """Pixels turned so that a reader who heeds EXIF sees the drawing upright."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    image = drawing().convert("RGB")
    if orientation in undo:
        image = image.transpose(undo[orientation])
    options = {"quality": 95} if kind == "JPEG" else {}
    return encoded(image, kind, exif=exif, **options)
