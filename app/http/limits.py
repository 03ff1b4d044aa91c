"""Limits of what the server accepts; served at `/v1/limits` and named in the problems that they cause."""

from __future__ import annotations

from hyperserve import labels
from hyperserve.types import Limits
from models.data.archive import MAX_MEMBERS, MAX_UNPACKED
from models.data.errors import MAX_CLASSES, MAX_EXAMPLES
from models.inputs.image import MAX_BYTES, MAX_PIXELS
from models.inputs.raw import MAX_TEXT, MAX_VECTOR

LIMITS = Limits(
    json_bytes=32 << 20,
    multipart_bytes=128 << 20,
    multipart_parts=1_000,
    ways_min=2,
    ways_max=1_000,
    support_examples=20_000,
    queries=1_024,
    samples=256,
    label_characters=labels.MAX_CHARACTERS,
    vector_length=MAX_VECTOR,
    target_length=256,
    text_characters=MAX_TEXT,
    image_bytes=MAX_BYTES,
    image_pixels=MAX_PIXELS,
    dataset_bytes=2 << 30,
    dataset_examples=MAX_EXAMPLES,
    dataset_classes=MAX_CLASSES,
    dataset_members=MAX_MEMBERS,
    dataset_unpacked_bytes=MAX_UNPACKED,
    training_steps=200_000,
    stream_tasks=1_000,
    held_out=2_000,
)
SAMPLES_MIN, SAMPLES_DEFAULT = 2, 32
TOP_MAX = 1_000
COVERAGE_DEFAULT = 0.9
NAME_CHARACTERS = 200
ERRORS_MAX = 20
PAGE_DEFAULT, PAGE_MAX = 50, 200
