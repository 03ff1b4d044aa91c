"""The body of a predict in the OpenAPI document."""

from __future__ import annotations

from pydantic import BaseModel

from app.http.openapi import REF, Schema
from app.streams.queries import StreamPredict
from app.tasks.documents import CROSS
from app.tasks.documents import PREDICT as TASK_PREDICT

MODELS: list[type[BaseModel]] = [StreamPredict]

_CONTENT: Schema = TASK_PREDICT["requestBody"]["content"]
_JSON: Schema = {
    "schema": {"$ref": REF.format(model="StreamPredict")},
    "examples": {
        "inferred": {"value": {"queries": [CROSS]}},
        "told": {"value": {"queries": [CROSS], "task": "0-1", "top": 1}},
    },
}
PREDICT: Schema = {"requestBody": {"required": True, "content": {**_CONTENT, "application/json": _JSON}}}
