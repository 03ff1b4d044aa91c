"""Pydantic's errors as faults: pointer, code and limit, never the input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from app.http.problems import Fault, ProblemError, fail, pointer

Model = TypeVar("Model", bound=BaseModel)

_CODES = {
    "missing": "missing",
    "extra_forbidden": "unknown_field",
    "greater_than": "out_of_range",
    "greater_than_equal": "out_of_range",
    "less_than": "out_of_range",
    "less_than_equal": "out_of_range",
    "finite_number": "out_of_range",
    "string_too_long": "too_long",
    "string_too_short": "too_short",
    "string_pattern_mismatch": "bad_format",
}
_LIMITS = ("gt", "ge", "lt", "le", "max_length", "min_length")
_DETAILS = {
    "unknown_field": "There is no such field.",
    "missing": "The field is required.",
}


def validated(model: type[Model], tree: object, query: BaseModel | None = None) -> Model:
    """Return `tree` as a model; options may be in the query string instead. Raises `ProblemError` 422."""
    if not isinstance(tree, dict):
        raise fail("wrong_type", "The document is not a JSON object.", "")
    given = {} if query is None else query.model_dump(exclude_unset=True)
    if twice := [name for name in given if name in tree]:
        raise ProblemError(
            [
                Fault("given_twice", "The query string and the body both give this field.", f"/{n}")
                for n in twice
            ]
        )
    try:
        return model.model_validate({**tree, **given}, strict=True)
    except ValidationError as error:
        raise ProblemError(faults(error.errors(include_url=False, include_input=False))) from None


def faults(errors: Sequence[Mapping[str, Any]], skip: int = 0) -> list[Fault]:
    """Return pydantic's errors as faults. `skip` drops leading elements of a location, such as FastAPI's "query"."""
    return [_fault(error, tuple(error["loc"])[skip:]) for error in errors]


def _fault(error: Mapping[str, Any], location: tuple[str | int, ...]) -> Fault:
    kind: str = error["type"]
    code = _CODES.get(
        kind, "wrong_type" if kind.endswith(("_type", "_parsing", "_from_float")) else "bad_format"
    )
    context = error.get("ctx", {})
    limit = next((context[name] for name in _LIMITS if name in context), None)
    detail = _DETAILS.get(code) or error["msg"] + "."
    return Fault(code, detail, pointer(location), None if limit is None else float(limit))
