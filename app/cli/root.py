"""The `hyperserve` command: its subcommands by name, each imported when it is invoked."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from app.cli.lazy import SETTINGS, lazy_group
from hyperserve.version import __version__

COMMANDS = {
    "serve": ("app.cli.serve:serve", "Start the service."),
    "worker": ("app.cli.serve:worker", "Run jobs of the queue."),
    "db": ("app.cli.serve:database", "Look after the database."),
    "gc": ("app.cli.admin:gc", "Delete what has expired or finished, and blobs that nothing needs."),
    "backup": ("app.cli.admin:backup", "Write everything that the service holds to a file."),
    "restore": ("app.cli.admin:restore", "Read a backup into an empty service."),
    "demo": ("app.cli.demo:demo", "Make a task of the shipped drawings, query it and show the answers."),
    "streams": ("app.cli.streams:app", "Query, extend and manage streams."),
    "train": ("app.cli.train:train", "Meta-train a learner."),
    "train-head": (
        "app.cli.heads:train_head",
        "Train a head for vectors of any origin, over many feature spaces.",
    ),
    "assemble": ("app.cli.heads:assemble", "Put a trained head on a trained encoder."),
    "evaluate": ("app.cli.evaluate:app", "Measure learners by a published protocol."),
    "methods": ("app.cli.info:methods", "List the methods that make learners."),
    "openapi": ("app.cli.info:openapi", "Print the OpenAPI document."),
}
"""Command → (where it is, summary)."""


class RootGroup(lazy_group(COMMANDS)):  # type: ignore[misc]
    """The top level, where errors of every command are printed."""

    def invoke(self, ctx: Any) -> Any:
        # Imported here: help does without settings and database.
        from app.cli.errors import printed_errors

        with printed_errors():
            return super().invoke(ctx)


app = typer.Typer(name="hyperserve", cls=RootGroup, no_args_is_help=True, **SETTINGS)


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"hyperserve {__version__}")
        raise typer.Exit


@app.callback()
def hyperserve(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Serve few-shot learners: post a support set, get a model for that task, query it with uncertainty.

    Exit codes: 0 done, 1 failed, 2 misuse.
    """
