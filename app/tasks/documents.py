"""Request bodies of the OpenAPI document: one schema and one working example for each media type."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from app.http.body import MEDIA_TYPES
from app.http.fields import PRINTABLE
from app.http.limits import LIMITS
from app.http.openapi import REF, Responses, Schema
from app.tasks.schemas import (
    AddSupport,
    CreateTask,
    Feedback,
    Predict,
    PredictOnce,
    Promote,
    Relabel,
    Rename,
    Retarget,
    TargetFeedback,
)
from app.tasks.support import QUERY_PART

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
    "description": "Compared and answered in Unicode NFC.",
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
    "description": "Finite 32-bit floats; one length within a task.",
}
_TEXT: Schema = {"type": "string", "maxLength": LIMITS.text_characters}


_TARGET: Schema = {
    "description": "Finite 32-bit floats, of one length within a task; a bare number is a vector of one.",
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
    item: dict[str, Schema] = {"input": x, "label": {"$ref": REF.format(model="Label")}}
    pair: dict[str, Schema] = {
        "input": {"anyOf": [x, {"type": "number"}]},
        "target": {"$ref": REF.format(model="Target")},
    }
    return {
        "description": f"{description} At most {LIMITS.support_examples} examples in all.",
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
                "description": "Of a regression task.",
                "type": "array",
                "items": _object(pair, ["input", "target"]),
                "minItems": 1,
            },
        ],
    }


SCHEMAS: dict[str, Schema] = {
    "Input": {
        "description": "One x. A bare string or array is read as the learner's kind of input.",
        "anyOf": [
            _only("image", _BASE64),
            _only("vector", _VECTOR),
            _only("text", _TEXT),
            {"type": "string", "description": "An image in base64, or a text."},
            _VECTOR,
        ],
    },
    "Label": _LABEL,
    "Target": _TARGET,
    "Support": _support(
        LIMITS.ways_min,
        "At least two classes with at least one example each; class sizes may differ. Or, of a regression task, "
        "at least one input with its target.",
    ),
    "Addition": _support(1, "Examples of one class or more, old or new; or inputs with targets."),
}
MODELS: list[type[BaseModel]] = [
    CreateTask,
    Predict,
    PredictOnce,
    AddSupport,
    Relabel,
    Retarget,
    Promote,
    Rename,
    Feedback,
    TargetFeedback,
]

_IMAGES = {"cross": [CROSS, WIDE_CROSS], "box": [BOX]}
_VECTORS = {"near": [[0.1, 0.9], [0.2, 1.1]], "far": [[5.0, -3.0]]}
_LABELLED = [
    {"input": {"vector": [0.1, 0.9]}, "label": "near"},
    {"input": {"vector": [5.0, -3.0]}, "label": "far"},
]


_SINUSOID = [{"input": [0.0], "target": [0.0]}, {"input": 1.571, "target": 2.0}]


def _json(model: str, *others: str, **examples: Any) -> Schema:
    """Of one model, or of one of several."""
    named = {name: {"value": value} for name, value in examples.items()}
    schemas: list[Schema] = [{"$ref": REF.format(model=one)} for one in (model, *others)]
    schema = {"anyOf": schemas} if others else schemas[0]
    return {"application/json": {"schema": schema, "examples": named}}


def _multipart(*, support: bool, queries: bool, ways_min: int = LIMITS.ways_min) -> Schema:
    """Parts are files; JSON has no way to say bytes, so the example stands for files of one's own."""
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


def _images() -> Schema:
    types = (media_type for media_type, kind in MEDIA_TYPES.items() if kind == "image")
    return {media_type: {"schema": {"type": "string", "format": "binary"}} for media_type in types}


def _body(content: Schema) -> Schema:
    return {"requestBody": {"required": True, "content": content}}


_ETAG: Schema = {"schema": {"type": "string"}, "description": "Of the task; see If-Match and If-None-Match."}
_LOCATION: Schema = {"schema": {"type": "string"}, "description": "Path of the task."}
_TASK_ID = {"parameters": {"task_id": "$response.body#/id"}}
_CREATED: Schema = {
    "headers": {"Location": _LOCATION, "ETag": _ETAG},
    "links": {
        operation: {"operationId": operation, **_TASK_ID}
        for operation in ("get_task", "delete_task", "predict")
    },
}
_MADE: Schema = {"responses": {"201": {"headers": {"Location": _LOCATION, "ETag": _ETAG}}}}
_CHANGED: Schema = {"responses": {"200": {"headers": {"ETag": _ETAG}}}}
CACHEABLE: Responses = {
    200: {"headers": {"ETag": _ETAG}},
    304: {"description": "It is as If-None-Match says.", "headers": {"ETag": _ETAG}},
}

CREATE = _body(
    _json(
        "CreateTask",
        images={"learner": "glyphs", "name": "crosses and boxes", "support": _IMAGES},
        vectors={"support": _VECTORS},
        list={"support": _LABELLED},
        regression={"kind": "regression", "name": "a wave", "support": _SINUSOID},
    )
    | _multipart(support=True, queries=False)
) | {"responses": {"201": _CREATED}}
PREDICT = _body(
    _json("Predict", images={"queries": [WIDE_CROSS], "coverage": 0.9, "samples": 32, "top": 5})
    | _multipart(support=False, queries=True)
    | _images()
)
PREDICT_ONCE = _body(
    _json(
        "PredictOnce",
        images={"learner": "glyphs", "support": _IMAGES, "queries": [WIDE_CROSS]},
        vectors={"support": _VECTORS, "queries": [[0.3, 0.8]]},
        regression={
            "kind": "regression",
            "support": _SINUSOID,
            "queries": [[0.5], [2.0]],
            "targets": [[0.96], [1.82]],
        },
    )
    | _multipart(support=True, queries=True)
)
ADD_SUPPORT = (
    _body(
        _json(
            "AddSupport",
            images={"support": {"cross": [WIDE_CROSS], "two boxes": [BOX]}},
            list={"support": [{"input": WIDE_CROSS, "label": "cross"}]},
        )
        | _multipart(support=True, queries=False, ways_min=1)
    )
    | _MADE
)
RELABEL = _body(_json("Relabel", "Retarget", label={"label": "circle"})) | _CHANGED
PROMOTE = _body(_json("Promote", version={"version": 1})) | _CHANGED
RENAME = _body(_json("Rename", name={"name": "crosses and boxes"})) | _CHANGED
FEEDBACK = _body(_json("Feedback", "TargetFeedback", label={"label": "cross"})) | _MADE
