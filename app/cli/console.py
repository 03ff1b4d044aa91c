"""Printing for people: text is shown as it is, since `[brackets]` of a path are no markup."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

messages = Console(stderr=True, markup=False, emoji=False, highlight=False, soft_wrap=True)
"""Standard error: progress, and the path of what was made."""


def print_table(table: Table) -> None:
    """Print a table to standard output; cells that are coloured are `Text`."""
    Console(markup=False, emoji=False, highlight=False).print(table)


def simple_table(*headings: str) -> Table:
    """Return an empty table that shows every cell in full: in a narrow console, cells of text take several lines.

    A `#` before a heading puts its column to the right and keeps it in one line.
    """
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in headings:
        if heading.startswith("#"):
            table.add_column(heading.removeprefix("#"), justify="right", no_wrap=True)
        else:
            table.add_column(heading, overflow="fold")
    return table


def training_progress() -> Progress:
    """Return the bar of a training; its tasks have a field `note`."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=messages,
    )
