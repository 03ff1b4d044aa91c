"""The parts of the OpenAPI document that no route's signature states: bodies, problems, examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app.http.problem_codes import PROBLEM_CODES
from app.http.problems import MEDIA_TYPE
from hyperserve.types import Problem

Schema = dict[str, Any]
Responses = dict[int | str, dict[str, Any]]
REF = "#/components/schemas/{model}"

_HEADERS = {
    "X-Request-Id": {
        "schema": {"type": "string"},
        "description": "Id of the request: the client's own, if it sent one.",
    },
    "Server-Timing": {"schema": {"type": "string"}, "description": "Milliseconds per phase."},
}
_EXTRA_HEADERS = {
    405: {"Allow": {"schema": {"type": "string"}, "description": "Methods of this address."}},
    503: {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds to wait."}},
}
_DESCRIPTIONS = {
    400: "The body cannot be read.",
    403: "A web page of another origin may not do this.",
    404: "The resource does not exist.",
    405: "The address does not support this method.",
    408: "The body arrived too slowly.",
    409: "The request conflicts with the current state of the resource.",
    410: "The resource existed, but is gone.",
    412: "The resource changed in the meantime.",
    413: "The body has too many bytes, parts or pixels.",
    415: "The media type of the body is not supported.",
    421: "The server does not answer for the Host of the request.",
    422: "The request is well-formed, but invalid.",
    500: "The server failed.",
    503: "The server is busy or starting.",
    507: "The server has no storage left.",
}
BODY = (400, 408, 413, 415, 422, 503)
"""Statuses of every route that reads a body."""


def problems(*statuses: int) -> Responses:
    """Return the documented problem responses of a route; 403, 405, 421 and 500 are common to all routes."""
    return {
        status: {"$ref": f"#/components/responses/{status}", "description": _DESCRIPTIONS[status]}
        for status in sorted({*statuses, 403, 405, 421, 500})
    }


def _problem(status: int) -> Schema:
    code, entry = next((code, entry) for code, entry in PROBLEM_CODES.items() if entry.status == status)
    example = {
        "type": f"/problems/{code}",
        "title": entry.title,
        "status": status,
        "detail": entry.text,
        "code": code,
        "request_id": "req_01jd8m6k0v5v4q2c9y7t3n1x0z",
        "errors": [],
    }
    return {
        "description": _DESCRIPTIONS[status],
        "headers": {**_HEADERS, **_EXTRA_HEADERS.get(status, {})},
        "content": {MEDIA_TYPE: {"schema": {"$ref": REF.format(model="Problem")}, "example": example}},
    }


def _forget_default_errors(document: Schema) -> None:
    """Remove FastAPI's own 422 from routes with parameters: no route of ours sends it."""
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)
    for operations in document["paths"].values():
        for operation in operations.values():
            if "$ref" not in operation["responses"].get("422", {"$ref": ""}):
                del operation["responses"]["422"]


def install(app: FastAPI, models: Sequence[type[BaseModel]], schemas: dict[str, Schema]) -> None:
    """Add components to the document: `models` and `schemas` that bodies refer to, since no signature names them."""

    def document() -> Schema:
        if app.openapi_schema is None:
            found = get_openapi(
                title=app.title, version=app.version, description=app.description, routes=app.routes
            )
            named: list[type[BaseModel]] = [*models, Problem]
            listed: list[tuple[type[BaseModel], Literal["validation"]]] = [
                (model, "validation") for model in named
            ]
            _, definitions = models_json_schema(listed, ref_template=REF)
            components = found.setdefault("components", {})
            components["responses"] = {str(status): _problem(status) for status in _DESCRIPTIONS}
            components["schemas"] |= definitions["$defs"] | schemas
            _forget_default_errors(found)
            app.openapi_schema = found
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]
