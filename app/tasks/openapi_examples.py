"""Request bodies of the OpenAPI document: one schema and one working example for each media type."""

from __future__ import annotations

from pydantic import BaseModel

from app.http.openapi import Responses, Schema
from app.payloads.openapi_examples import (
    BOX,
    CROSS,
    WIDE_CROSS,
    image_content,
    json_content,
    multipart_content,
    request_body,
)
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


_ETAG: Schema = {
    "schema": {"type": "string"},
    "description": "Revision of the task, for If-Match and If-None-Match.",
}
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
    304: {
        "description": "The task has not changed since the ETag in If-None-Match.",
        "headers": {"ETag": _ETAG},
    },
}

CREATE = request_body(
    json_content(
        "CreateTask",
        images={"learner": "glyphs", "name": "crosses and boxes", "support": _IMAGES},
        vectors={"support": _VECTORS},
        list={"support": _LABELLED},
        regression={"kind": "regression", "name": "a wave", "support": _SINUSOID},
    )
    | multipart_content(support=True, queries=False)
) | {"responses": {"201": _CREATED}}
PREDICT = request_body(
    json_content("Predict", images={"queries": [WIDE_CROSS], "coverage": 0.9, "samples": 32, "top": 5})
    | multipart_content(support=False, queries=True)
    | image_content()
)
PREDICT_ONCE = request_body(
    json_content(
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
    | multipart_content(support=True, queries=True)
)
ADD_SUPPORT = (
    request_body(
        json_content(
            "AddSupport",
            images={"support": {"cross": [WIDE_CROSS], "two boxes": [BOX]}},
            list={"support": [{"input": WIDE_CROSS, "label": "cross"}]},
        )
        | multipart_content(support=True, queries=False, ways_min=1)
    )
    | _MADE
)
RELABEL = request_body(json_content("Relabel", "Retarget", label={"label": "circle"})) | _CHANGED
PROMOTE = request_body(json_content("Promote", version={"version": 1})) | _CHANGED
RENAME = request_body(json_content("Rename", name={"name": "crosses and boxes"})) | _CHANGED
FEEDBACK = request_body(json_content("Feedback", "TargetFeedback", label={"label": "cross"})) | _MADE
