"""Options of commands: a dataclass whose fields are the options, and values of the form key=value."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from app.cli.errors import MisuseError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Options = TypeVar("Options", bound=DataclassInstance)
else:
    Options = TypeVar("Options")


def takes_options(kind: type[Options]) -> Callable[[Callable[[Options], None]], Callable[..., None]]:
    """Turn a function of one options object into a command with an option for each field.

    Fields are annotated as parameters of a typer command are: `Annotated[int, typer.Option(help=…)]`.
    """
    hints = get_type_hints(kind, include_extras=True)
    parameters = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in fields(kind)
    ]

    def decorate(function: Callable[[Options], None]) -> Callable[..., None]:
        def command(**values: Any) -> None:
            function(kind(**values))

        command.__name__, command.__doc__ = function.__name__, function.__doc__
        command.__module__ = function.__module__
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return command

    return decorate


def key_value(pair: str) -> tuple[str, Any]:
    """Return the key and the value, which is JSON if it can be read as such, and else text."""
    key, equals, value = pair.partition("=")
    if not equals or not key:
        raise MisuseError(f"{pair!r} is not of the form key=value")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def key_values(pairs: Iterable[str] | None) -> dict[str, Any]:
    """Return all pairs of an option that may be given several times."""
    return dict(map(key_value, pairs or ()))
