"""Bodies, examples and headers of streams in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from app.datasets.service import MEDIA_TYPES
from app.http.openapi import REF, Responses, Schema
from app.http.upload import MULTIPART, PART
from app.payloads.openapi_examples import CROSS, image_content, multipart_content, request_body
from app.streams.schemas import CreateStream, RegisterTask, Rollback, StreamPredict

MODELS: list[type[BaseModel]] = [CreateStream, RegisterTask, Rollback, StreamPredict]
_FILE: Schema = {"type": "string", "format": "binary"}
_FORM: Schema = {
    "type": "object",
    "properties": {PART: _FILE},
    "required": [PART],
    "additionalProperties": False,
}
_ETAG: Schema = {"schema": {"type": "string"}, "description": "ETag of the current state of the stream."}
CACHEABLE: Responses = {
    200: {"headers": {"ETag": _ETAG}},
    304: {"description": "The stream matches If-None-Match.", "headers": {"ETag": _ETAG}},
}
_STREAM = {"stream": "$response.body#/name"}
_JOB: Schema = {
    "headers": {"Location": {"schema": {"type": "string"}, "description": "Path of the job."}},
    "links": {"get_job": {"operationId": "get_job", "parameters": {"job_id": "$response.body#/job/id"}}},
}


def _json(model: str, **examples: dict[str, Any]) -> Schema:
    return {
        "schema": {"$ref": REF.format(model=model)},
        "examples": {name: {"value": value} for name, value in examples.items()},
    }


CREATE: Schema = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": _json(
                "CreateStream",
                pictures={
                    "name": "signs",
                    "scenario": "cl3",
                    "method": "hypernetwork",
                    "input": {"kind": "image", "size": 28},
                },
                features={"name": "words", "scenario": "cl1", "method": "analytic", "learner": "glyphs"},
                copy={"name": "my-digits", "from": "digits"},
            )
        },
    },
    "responses": {
        "201": {
            "headers": {
                "Location": {"schema": {"type": "string"}, "description": "Path of the stream."},
                "ETag": _ETAG,
            },
            "links": {
                name: {"operationId": name, "parameters": _STREAM}
                for name in (
                    "get_stream",
                    "delete_stream",
                    "list_stream_tasks",
                    "list_stream_versions",
                    "register_stream_task",
                    "roll_stream_back",
                    "predict_stream",
                )
            },
        }
    },
}
REGISTER: Schema = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": _json(
                "RegisterTask",
                some={
                    "name": "zero-one",
                    "dataset": "ds_01jd8m6k0v5v4q2c9y7t3n1x0z",
                    "classes": ["0", "1"],
                    "held_out": 200,
                },
                all={"name": "letters", "dataset": "ds_01jd8m6k0v5v4q2c9y7t3n1x0z"},
            ),
            **{media_type: {"schema": _FILE} for media_type in MEDIA_TYPES if media_type != "text/csv"},
            "text/csv": {
                "schema": {"type": "string"},
                "example": "label,x1,x2\nnear,0.1,0.9\nfar,5.0,-3.0\n",
            },
            MULTIPART: {"schema": _FORM},
        },
    },
    "responses": {"202": _JOB},
}
FORGET: Schema = {"responses": {"202": _JOB}}
ROLLBACK: Schema = {
    "requestBody": {
        "required": True,
        "content": {"application/json": _json("Rollback", earlier={"version": 1})},
    },
    "responses": {"200": {"headers": {"ETag": _ETAG}}},
}


_PREDICT_JSON: Schema = {
    "schema": {"$ref": REF.format(model="StreamPredict")},
    "examples": {
        "inferred": {"value": {"queries": [CROSS]}},
        "named": {"value": {"queries": [CROSS], "task": "0-1", "top": 1}},
    },
}
PREDICT: Schema = request_body(
    {
        "application/json": _PREDICT_JSON,
        **multipart_content(support=False, queries=True),
        **image_content(),
    }
)
