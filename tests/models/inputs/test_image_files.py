"""Hostile files are refused, or cut down to their pixels, within milliseconds; ordinary ones lose nothing."""

import io
import struct
import time
import zipfile

import numpy as np
import pytest

from models.data import zip_file
from models.data.errors import DatasetFileError
from models.inputs import ImageBytes, ImageInput, InputError, PhotoInput
from models.inputs.image import decode_pixels, pixel_count
from models.inputs.image_files import MAX_PARTS, MAX_SCANS, reduced
from tests.models.inputs import hostile_images
from tests.models.inputs.pictures import drawing, encoded, lossless, lossy, png_chunk, rotated

SECONDS = 2.0
"""Far above what any of these files takes, and far below what each of them took."""
RLE, COMPLEX, HARMLESS = hostile_images.rle_bmps(), hostile_images.too_complex(), hostile_images.harmless()
DRAWN = decode_pixels(encoded(drawing(), "PNG"))


def refused(data: bytes) -> InputError:
    started = time.process_time()
    for read in (decode_pixels, lambda data: ImageInput().decode(ImageBytes(data))):
        with pytest.raises(InputError) as caught:
            read(data)
    assert time.process_time() - started < SECONDS
    return caught.value


@pytest.mark.parametrize("name", RLE)
def test_compressed_bmps_are_refused(name: str) -> None:
    error = refused(RLE[name])
    assert error.code == "unsupported_image_format"
    assert "compressed BMP" in error.detail


@pytest.mark.parametrize("name", COMPLEX)
def test_files_of_too_many_parts_are_refused(name: str) -> None:
    error = refused(COMPLEX[name])
    assert error.code == "image_too_complex"
    assert error.limit is not None
    assert 1 <= error.limit <= MAX_PARTS


@pytest.mark.parametrize("name", HARMLESS)
def test_what_pixels_do_not_need_costs_nothing(name: str) -> None:
    started = time.process_time()
    assert pixel_count(HARMLESS[name]) == DRAWN.size
    shown = decode_pixels(HARMLESS[name])
    assert time.process_time() - started < SECONDS
    assert np.abs(shown.astype(int) - DRAWN).mean() < 2


def test_scans_are_bounded_by_number_and_by_pixels() -> None:
    assert decode_pixels(hostile_images.progressive(64, MAX_SCANS)).shape == (64, 64, 1)
    assert refused(hostile_images.progressive(64, MAX_SCANS + 1)).limit == MAX_SCANS
    large = refused(hostile_images.progressive(5000, 30))
    assert large.limit is not None
    assert large.limit < 30


@pytest.mark.parametrize("kind", [ImageInput(), PhotoInput()])
def test_every_input_has_the_same_guards(kind: ImageInput | PhotoInput) -> None:
    with pytest.raises(InputError, match="compressed BMP"):
        kind.decode(ImageBytes(RLE["one run and an end of line"]))


@pytest.mark.parametrize("name", [*lossless(), *lossy()])
def test_ordinary_files_keep_their_pixels(name: str) -> None:
    data = {**lossless(), **lossy()}[name]
    kind = {"png": "PNG", "jpe": "JPEG", "gif": "GIF", "bmp": "BMP", "web": "WEBP"}.get(name[:3], "PNG")
    once = reduced(data, kind)  # type: ignore[arg-type]
    assert len(once.data) <= len(data) + 64
    np.testing.assert_array_equal(decode_pixels(once.data), decode_pixels(data))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_damaged_metadata_do_not_matter(kind: str) -> None:
    data = bytearray(rotated(6, kind))
    place = data.index(b"MM\0*") if b"MM\0*" in data else data.index(b"II*\0")
    end = place + 4
    data[place:end] = b"\xff\xff\xff\xfe"
    if kind == "PNG":
        start = data.index(b"eXIf") - 4
        length = int.from_bytes(data[start : start + 4], "big")
        body = bytes(data[start + 8 : start + 8 + length])
        data[start : start + 12 + length] = png_chunk(b"eXIf", body)
    assert decode_pixels(bytes(data)).shape[:2] == (60, 40)


def _jpegs() -> dict[str, bytes]:
    colour = drawing().convert("RGB")
    return {
        "grey": encoded(drawing(), "JPEG", quality=90),
        "colour": encoded(colour, "JPEG", quality=90),
        "progressive": encoded(colour, "JPEG", quality=90, progressive=True),
        "restarts": encoded(colour, "JPEG", quality=90, restart_marker_blocks=2),
        "optimised": encoded(colour, "JPEG", quality=40, optimize=True),
        "cmyk": encoded(drawing().convert("CMYK"), "JPEG"),
    }


@pytest.mark.parametrize("name", _jpegs())
@pytest.mark.parametrize("missing", [1, 2])
def test_a_jpeg_may_lack_its_end_marker(name: str, missing: int) -> None:
    data = _jpegs()[name]
    np.testing.assert_array_equal(decode_pixels(data[:-missing]), decode_pixels(data))


@pytest.mark.parametrize("name", _jpegs())
def test_a_jpeg_may_lack_nothing_else(name: str) -> None:
    data = _jpegs()[name]
    for end in range(data.index(b"\xff\xda"), len(data) - 12):
        with pytest.raises(InputError) as caught:
            decode_pixels(data[:end])
        assert caught.value.code == "truncated_image"


def test_a_data_set_names_the_file_that_is_refused() -> None:

    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in ("a", "b"):
            archive.writestr(f"{name}/0.png", encoded(drawing(), "PNG"))
        archive.writestr("b/1.bmp", RLE["one run and an end of line"])
    with pytest.raises(DatasetFileError) as caught:
        zip_file.inspect(out)
    assert caught.value.where == "b/1.bmp"
    assert caught.value.code == "unsupported_image_format"


def test_exif_of_many_entries_is_not_read() -> None:
    exif = b"Exif\0\0" + hostile_images.many_entries(40_000)
    jpeg = encoded(drawing(), "JPEG")
    data = jpeg[:2] + struct.pack(">BBH", 0xFF, 0xE1, len(exif) + 2) + exif + jpeg[2:]
    assert reduced(data, "JPEG").exif == exif
    assert decode_pixels(data).shape == (40, 60, 1)
