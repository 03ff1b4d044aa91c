"""Decoding of submitted inputs into arrays: kinds, safe bytes, limits, and one shape for a whole request."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from app.http import strict_json
from app.http.limits import ERRORS_MAX, LIMITS
from app.http.multipart import Part
from app.http.problems import Fault, ProblemError, fail, pointer
from app.payloads.support import SubmittedInput
from models.inputs import ImageBytes, InputError, InputSpec, RawInput, Text, Vector, VectorInput
from models.inputs.image import pixel_count

REQUEST_PIXELS = 400_000_000
"""Limit for all images of one request together: a small body must not cause minutes of decoding."""
_SPACE = re.compile(r"[ \t\n\r]+")
# Possessive quantifiers: a long text that is not such a URL must not cause backtracking.
_DATA_URL = re.compile(
    r"data:[\w.+-]*+/?[\w.+-]*+(?:;[\w.+-]++=[\w.+-]*+)*+;base64,", re.ASCII | re.IGNORECASE
)
_KINDS = ("image", "text", "vector")


@dataclass(frozen=True)
class DecodedInputs:
    """Raw inputs as they will be stored, and as the learner takes them."""

    raws: tuple[RawInput, ...]
    x: npt.NDArray[np.float32]


def inferred_kind(submitted: SubmittedInput) -> str:
    """Return the kind of an input if no learner is named. Raises `ProblemError` 422 if it is ambiguous."""
    match submitted.value:
        case Part(media_type="application/json", data=data):
            return inferred_kind(SubmittedInput(_json(data, submitted), submitted.location))
        case Part():
            return "image"
        case list():
            return "vector"
        case dict() as value if len(value) == 1 and next(iter(value)) in _KINDS:
            return str(next(iter(value)))
        case str():
            raise fail(
                "ambiguous_input",
                "A bare string may be an image or a text: name a learner.",
                pointer(submitted.location),
            )
    raise _not_an_input(submitted)


def decode(
    inputs: Sequence[SubmittedInput], spec: InputSpec, shape: Sequence[int] | None = None
) -> DecodedInputs:
    """Decode inputs, which must be of `shape` if the task has one. Raises `ProblemError`."""
    if isinstance(spec, VectorInput) and shape is not None:
        spec = spec.model_copy(update={"dim": shape[0]})
    raws: list[RawInput] = []
    arrays: list[npt.NDArray[np.float32]] = []
    faults: list[Fault] = []
    pixels = 0
    for submitted in inputs:
        try:
            raw = raw_input(submitted, spec.kind)
            if spec.kind == "image" and isinstance(raw, ImageBytes):
                pixels += pixel_count(raw.data)
                if pixels > REQUEST_PIXELS:
                    raise InputError(
                        "image_too_large",
                        "The images of the request have too many pixels in total.",
                        REQUEST_PIXELS,
                    )
            array = spec.decode(raw)
            spec = spec.like(array)
        except InputError as error:
            faults.append(Fault(error.code, error.detail, pointer(submitted.location), error.limit))
        except ProblemError as problem:
            faults += problem.faults
        else:
            raws.append(raw)
            arrays.append(array)
        if len(faults) >= ERRORS_MAX or pixels > REQUEST_PIXELS:
            break
    if faults:
        raise ProblemError(faults)
    return DecodedInputs(tuple(raws), np.stack(arrays))


def decode_stored(raws: Iterable[RawInput], spec: InputSpec) -> npt.NDArray[np.float32]:
    """Decode stored inputs, [n, *input]. Raises `InputError` if the learner no longer takes them."""
    return np.stack([spec.decode(raw) for raw in raws])


def raw_input(submitted: SubmittedInput, kind: str) -> RawInput:
    """Return an input for a learner that takes the kind. Raises `ProblemError` 422, and `InputError`."""
    value = submitted.value
    if isinstance(value, Part):
        if value.media_type != "application/json":
            return ImageBytes(value.data)
        value = _json(value.data, submitted)
    where = pointer(submitted.location)
    match value:
        case {"image": str() as text, **rest} if not rest:
            return ImageBytes(_base64(text, f"{where}/image"))
        case {"text": str() as text, **rest} if not rest:
            return Text(text)
        case {"vector": list() as numbers, **rest} if not rest:
            return Vector.of(numbers)
        case str() if kind == "image":
            return ImageBytes(_base64(value, where))
        case str() if kind == "text":
            return Text(value)
        case str():
            raise InputError("wrong_kind", f"The learner takes {kind}s, not strings.")
        case list() if kind == "vector":
            return Vector.of(value)
        case list():
            raise InputError("wrong_kind", f"The learner takes {kind}s, not arrays.")
    raise _not_an_input(submitted)


def _json(data: bytes, submitted: SubmittedInput) -> strict_json.JsonValue:
    """Parse a part that is JSON. The limit of a JSON body applies to it."""
    if len(data) > LIMITS.json_bytes:
        raise fail(
            "body_too_large",
            "The part is too large for JSON.",
            pointer(submitted.location),
            LIMITS.json_bytes,
        )
    return strict_json.parse(data, submitted.location)


def _not_an_input(submitted: SubmittedInput) -> ProblemError:
    return fail(
        "wrong_type",
        'An input is {"image": base64}, {"vector": [...]}, {"text": ...} or its bare value.',
        pointer(submitted.location),
    )


def _base64(text: str, where: str) -> bytes:
    if match := _DATA_URL.match(text):
        text = text[match.end() :]
    try:
        return base64.b64decode(_SPACE.sub("", text), validate=True)
    except (binascii.Error, ValueError):
        raise fail("not_base64", "The text is not standard base64.", where) from None
