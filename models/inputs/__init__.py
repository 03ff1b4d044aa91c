"""Safe bytes to arrays: the same code trains, evaluates and serves."""

from models.inputs.image import ImageInput
from models.inputs.photo import PhotoInput
from models.inputs.raw import ImageBytes, InputError, Kind, RawInput, Text, Vector, is_blank, raw_from
from models.inputs.spec import InputSpec, PictureInput
from models.inputs.vector import VectorInput

__all__ = [
    "ImageBytes",
    "ImageInput",
    "InputError",
    "InputSpec",
    "Kind",
    "PhotoInput",
    "PictureInput",
    "RawInput",
    "Text",
    "Vector",
    "VectorInput",
    "is_blank",
    "raw_from",
]
