"""Commands that are imported when they are invoked: help, and commands that need no torch, start without it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, cast

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

SETTINGS: dict[str, Any] = {"add_completion": False, "pretty_exceptions_enable": False}
"""Settings of every `Typer`."""


class LazyCommand(TyperCommand):
    """A command or group at `module:attribute`, known by name and summary until it is invoked."""

    def __init__(self, name: str, target: str, summary: str) -> None:
        super().__init__(name, help=summary)
        self.target = target

    def load(self) -> TyperCommand | TyperGroup:
        """Import the command; the attribute is a function or a `Typer`."""
        module, _, attribute = self.target.partition(":")
        found = getattr(importlib.import_module(module), attribute)
        if not isinstance(found, typer.Typer):
            alone = typer.Typer(**SETTINGS)
            alone.command(self.name)(found)
            found = alone
        return cast("TyperCommand | TyperGroup", get_command(found))

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Return a context of the imported command, which is then what runs."""
        return self.load().make_context(info_name, args, parent, **extra)


def lazy_group(commands: Mapping[str, tuple[str, str]]) -> type[TyperGroup]:
    """Return a group class that has `commands`: name → (target, summary)."""

    class LazyGroup(TyperGroup):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            for name, (target, summary) in commands.items():
                self.add_command(LazyCommand(name, target, summary))

    return LazyGroup
