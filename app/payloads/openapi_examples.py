"""Schemas and example bodies of the OpenAPI document that tasks and streams share."""

from __future__ import annotations

from typing import Any

from app.http.body import MEDIA_TYPES
from app.http.fields import PRINTABLE
from app.http.limits import LIMITS
from app.http.openapi import REF, Schema
from app.payloads.support import QUERY_PART, WHOLE_MAX

CROSS = (
    "iVBORw0KGgoAAAANSUhEUgAAABgAAAAYAQAAAADIDABVAAAAJklEQVR42mP8z8DAxICMv6DxUTHDBwZ2JgYGBob/n//jUsOIZCYAWbIH"
    "BQA1iSgAAAAASUVORK5CYII="
)


BOX = (
    "iVBORw0KGgoAAAANSUhEUgAAABgAAAAYAQAAAADIDABVAAAAK0lEQVR42mP8z8DAxICKGX4wyDMxMDCwMP5fgC6HDbP8Z5RnYmBgYMRi"
    "FgBVNwYFilp4wAAAAABJRU5ErkJggg=="
)


WIDE_CROSS = (
    "iVBORw0KGgoAAAANSUhEUgAAABgAAAAYAQAAAADIDABVAAAAKklEQVR42m3MsQ0AMAjAMEP//7E/tDvsiCFLIiWKNPmLw3US6tXWEzF+"
    "DWV2BvFjK/hdAAAAAElFTkSuQmCC"
)


_LABEL: Schema = {
    "type": "string",
    "minLength": 1,
    "maxLength": LIMITS.label_characters,
    "pattern": PRINTABLE,
    "description": "Normalised to Unicode NFC before it is compared and in answers.",
}


_LABEL_VALUE: Schema = {
    "description": "A label; a whole number is the label of its decimal digits.",
    "anyOf": [
        {"$ref": REF.format(model="Label")},
        {"type": "integer", "minimum": -WHOLE_MAX, "maximum": WHOLE_MAX},
    ],
}


_BASE64: Schema = {
    "type": "string",
    "contentEncoding": "base64",
    "description": "PNG, JPEG, WebP, GIF or BMP in standard base64, or a data: URL. White space is ignored.",
}


_VECTOR: Schema = {
    "type": "array",
    "items": {"type": "number"},
    "minItems": 1,
    "maxItems": LIMITS.vector_length,
    "description": "Finite 32-bit floats; all vectors of a task have the same length.",
}


_TEXT: Schema = {"type": "string", "maxLength": LIMITS.text_characters}


_TARGET: Schema = {
    "description": "Finite 32-bit floats; all targets of a task have the same length. A bare number is a vector of "
    "length 1.",
    "anyOf": [
        {
            "type": "array",
            "items": {"type": "number"},
            "minItems": 1,
            "maxItems": LIMITS.target_length,
        },
        {"type": "number"},
    ],
}


def _only(name: str, schema: Schema) -> Schema:
    return _object({name: schema}, [name])


def _object(properties: dict[str, Schema], required: list[str]) -> Schema:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _support(ways_min: int, description: str) -> Schema:
    x: Schema = {"$ref": REF.format(model="Input")}
    item: dict[str, Schema] = {"input": x, "label": {"$ref": REF.format(model="LabelValue")}}
    pair: dict[str, Schema] = {
        "input": {"anyOf": [x, {"type": "number"}]},
        "target": {"$ref": REF.format(model="Target")},
    }
    return {
        "description": f"{description} At most {LIMITS.support_examples} examples in total.",
        "anyOf": [
            {
                "type": "object",
                "minProperties": ways_min,
                "maxProperties": LIMITS.ways_max,
                "propertyNames": {"$ref": REF.format(model="Label")},
                "additionalProperties": {
                    "type": "array",
                    "items": {"$ref": REF.format(model="Input")},
                    "minItems": 1,
                },
            },
            {"type": "array", "items": _object(item, ["input", "label"]), "minItems": ways_min},
            {
                "description": "Examples of a regression task.",
                "type": "array",
                "items": _object(pair, ["input", "target"]),
                "minItems": 1,
            },
        ],
    }


SCHEMAS: dict[str, Schema] = {
    "Input": {
        "description": "One input. A bare string or array is read as the learner's kind of input.",
        "anyOf": [
            _only("image", _BASE64),
            _only("vector", _VECTOR),
            _only("text", _TEXT),
            {"type": "string", "description": "An image in base64, or a text."},
            _VECTOR,
        ],
    },
    "Label": _LABEL,
    "LabelValue": _LABEL_VALUE,
    "Target": _TARGET,
    "Support": _support(
        LIMITS.ways_min,
        "At least two classes with at least one example each; class sizes may differ. For a regression task, at "
        "least one input with its target.",
    ),
    "Addition": _support(
        1, "Examples of one or more classes, existing or new; for a regression task, inputs with targets."
    ),
}


def json_content(model: str, *others: str, **examples: Any) -> Schema:
    """Return JSON content of one model, or of any of several, with example bodies by name."""
    named = {name: {"value": value} for name, value in examples.items()}
    schemas: list[Schema] = [{"$ref": REF.format(model=one)} for one in (model, *others)]
    schema = {"anyOf": schemas} if others else schemas[0]
    return {"application/json": {"schema": schema, "examples": named}}


def multipart_content(*, support: bool, queries: bool, ways_min: int = LIMITS.ways_min) -> Schema:
    """Return multipart content, whose parts are files. JSON cannot express bytes, so it has no example."""
    files: Schema = {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1}
    schema: Schema = {"type": "object", "additionalProperties": files if support else False}
    if queries:
        schema |= {"properties": {QUERY_PART: files}, "required": [QUERY_PART]}
    if support:
        schema |= {
            "minProperties": ways_min + queries,
            "propertyNames": {"$ref": REF.format(model="Label")},
        }
    else:
        schema |= {"maxProperties": 1}
    return {"multipart/form-data": {"schema": schema}}


def image_content() -> Schema:
    types = (media_type for media_type, kind in MEDIA_TYPES.items() if kind == "image")
    return {media_type: {"schema": {"type": "string", "format": "binary"}} for media_type in types}


def request_body(content: Schema) -> Schema:
    return {"requestBody": {"required": True, "content": content}}
