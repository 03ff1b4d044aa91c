"""Request bodies of the OpenAPI document."""

from __future__ import annotations

from app.datasets.service import MEDIA_TYPES
from app.http.openapi import Schema
from app.http.upload import MULTIPART, PART

_FILE: Schema = {"type": "string", "format": "binary"}
_FORM: Schema = {
    "type": "object",
    "properties": {PART: _FILE},
    "required": [PART],
    "additionalProperties": False,
}
_CSV: Schema = {
    "schema": {"type": "string"},
    "example": "label,x1,x2\nnear,0.1,0.9\nnear,0.2,1.1\nfar,5.0,-3.0\n",
}
UPLOAD: Schema = {
    "requestBody": {
        "required": True,
        "content": {
            **{media_type: {"schema": _FILE} for media_type in MEDIA_TYPES},
            "text/csv": _CSV,
            MULTIPART: {"schema": _FORM},
        },
    },
    "responses": {
        "201": {
            "headers": {"Location": {"schema": {"type": "string"}, "description": "Path of the dataset."}},
            "links": {
                operation: {"operationId": operation, "parameters": {"dataset_id": "$response.body#/id"}}
                for operation in ("get_dataset", "delete_dataset")
            },
        }
    },
}
