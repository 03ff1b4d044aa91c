"""What the OpenAPI document says beyond the routes' signatures: bodies, problems, examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app.http.problem_codes import CATALOGUE
from app.http.problems import MEDIA_TYPE
from hyperserve.types import Problem

Schema = dict[str, Any]
Responses = dict[int | str, dict[str, Any]]
REF = "#/components/schemas/{model}"

_HEADERS = {
    "X-Request-Id": {
        "schema": {"type": "string"},
        "description": "Id of the request; sent back when it came with one.",
    },
    "Server-Timing": {"schema": {"type": "string"}, "description": "Milliseconds per phase."},
}
_EXTRA_HEADERS = {
    405: {"Allow": {"schema": {"type": "string"}, "description": "Methods of this address."}},
    503: {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds to wait."}},
}
_WORDS = {
    400: "The body cannot be read.",
    404: "There is no such thing.",
    405: "The address does not take this method.",
    408: "The body arrived too slowly.",
    409: "It cannot be done now.",
    410: "It is over.",
    412: "The task has changed meanwhile.",
    413: "Too many bytes, parts or pixels.",
    415: "The body is of another media type.",
    422: "The request has no meaning.",
    500: "The server failed.",
    503: "The server is busy or starting.",
    507: "The server has no room.",
}
BODY = (400, 408, 413, 415, 422, 503)
"""Statuses of every route that reads a body."""


def problems(*statuses: int) -> Responses:
    """Documented problem answers of a route; 405 and 500 are any route's."""
    return {
        status: {"$ref": f"#/components/responses/{status}", "description": _WORDS[status]}
        for status in sorted({*statuses, 405, 500})
    }


def _problem(status: int) -> Schema:
    code, entry = next((code, entry) for code, entry in CATALOGUE.items() if entry.status == status)
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
        "description": _WORDS[status],
        "headers": {**_HEADERS, **_EXTRA_HEADERS.get(status, {})},
        "content": {MEDIA_TYPE: {"schema": {"$ref": REF.format(model="Problem")}, "example": example}},
    }


def _forget_default_errors(document: Schema) -> None:
    """FastAPI documents its own 422 on routes with parameters, which no route of ours sends."""
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)
    for operations in document["paths"].values():
        for operation in operations.values():
            if "$ref" not in operation["responses"].get("422", {"$ref": ""}):
                del operation["responses"]["422"]


def install(app: FastAPI, models: Sequence[type[BaseModel]], schemas: dict[str, Schema]) -> None:
    """`models` and `schemas` are components that bodies refer to, since no signature names them."""

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
            components["responses"] = {str(status): _problem(status) for status in _WORDS}
            components["schemas"] |= definitions["$defs"] | schemas
            _forget_default_errors(found)
            app.openapi_schema = found
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]
