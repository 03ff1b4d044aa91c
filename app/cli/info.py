"""`hyperserve methods` and `openapi`: descriptions of what the service offers."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from app.cli.encoding import is_unicode
from models.methods import described


def methods(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the methods that make learners.

    Each has its summary, kind, representation and the optimisers that can train it.
    """
    found = described().values()
    if as_json:
        typer.echo(json.dumps([method.model_dump(mode="json") for method in found], indent=1))
        return
    for method in found:
        way = f", exactly {method.ways.min} classes by default" if method.fixed_way else ""
        typer.echo(f"{method.name}: {method.summary}")
        typer.echo(
            f"    {method.kind}, {method.representation}{way}; trained by {', '.join(method.optimisers)}"
        )


def openapi() -> None:
    """Print the OpenAPI document."""
    # Imported here: `hyperserve methods` does without the application.
    from app.main import create_app

    typer.echo(json.dumps(create_app().openapi(), indent=2, ensure_ascii=not is_unicode(sys.stdout)))
