"""Every command line in the documentation and the model cards parses: options are known, values of the right type."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup
from typer.main import get_command

from app.cli.root import app
from app.cli.train_data import FUNCTIONS, PUBLISHED, DatasetChoice, function_family
from app.cli.train_options import TrainOptions
from app.cli.train_recipe import class_recipe, explicit_settings, function_recipe
from app.core.settings import REPOSITORY
from models.artifact import CONFIG_FILE
from models.registry import LearnerConfig

ZOO = REPOSITORY / "models" / "zoo"
PAGES = sorted(
    [
        REPOSITORY / "README.md",
        *REPOSITORY.glob("docs/**/*.md"),
        *REPOSITORY.glob("models/*/*/README.md"),
    ]
)
UsageError = typer.BadParameter.__mro__[1]
"""typer does not export it."""
_VARIABLE = re.compile(r'^\s*(\w+)="([^"]*)"$', re.MULTILINE)
_MENTION = re.compile(r"`(hyperserve [^`]+)`")


def command_lines(text: str) -> Iterator[str]:
    """Return whole commands: lines of code that begin with `hyperserve`."""
    text = text.replace("\\\n", " ")
    variables = dict(_VARIABLE.findall(text))
    fenced = False
    for line in text.splitlines():
        fenced ^= line.startswith("```")
        if not fenced and not line.startswith("    "):
            continue
        for command in line.partition(" # ")[0].strip().removeprefix(".venv/bin/").split(" && "):
            if command.startswith("hyperserve "):
                yield re.sub(r"\$(\w+)", lambda found: variables[found[1]], command)


def mentions(text: str) -> Iterator[str]:
    """Return commands within a sentence, which may be a part of one."""
    yield from (found for found in _MENTION.findall(text) if not re.search("[…|]", found))


def relative(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))


LINES = sorted({(relative(page), line) for page in PAGES for line in command_lines(page.read_text())})
MENTIONS = sorted({(relative(page), line) for page in PAGES for line in mentions(page.read_text())})


def parsed(words: list[str]) -> Any:
    """Return the context of the command that would run. Raises a usage error."""
    command: Any = get_command(app)
    context = command.make_context("hyperserve", words)
    while isinstance(context.command, TyperGroup):
        name, command, rest = context.command.resolve_command(
            context, [*context._protected_args, *context.args]
        )
        context = command.make_context(name, rest, parent=context)
    return context


def test_commands_are_found() -> None:
    assert len({line for page, line in LINES if "train" in line}) > 20
    assert ("docs/training.md", "hyperserve train --name mine --dataset path/to/folder") in LINES
    assert any("--encoder pixels" in line for page, line in LINES if page == "docs/results/README.md")


@pytest.mark.parametrize(
    ("page", "line"), LINES, ids=[f"{page}-{index}" for index, (page, _) in enumerate(LINES)]
)
def test_a_command_line_parses(page: str, line: str) -> None:
    """Recorded commands do not say where this machine keeps the data."""
    try:
        parsed(shlex.split(line)[1:])
    except UsageError as error:
        if type(error).__name__ != "MissingParameter" or error.param.name != "data":  # type: ignore[attr-defined]
            raise


@pytest.mark.parametrize(
    ("page", "line"), MENTIONS, ids=[f"{page}-{index}" for index, (page, _) in enumerate(MENTIONS)]
)
def test_a_mentioned_command_has_known_options(page: str, line: str) -> None:
    """A mention may leave out what is required, and the value of its last option."""
    try:
        # `--help` exits.
        with suppress(typer.Exit):
            parsed(shlex.split(line)[1:])
    except UsageError as error:
        if type(error).__name__ not in ("MissingParameter", "NoArgsIsHelpError", "BadOptionUsage"):
            raise


def last_training(card: Path) -> str:
    lines = [line for line in command_lines(card.read_text()) if line.startswith("hyperserve train ")]
    if not lines:
        pytest.skip("trained over spaces, or assembled of two learners")
    return lines[-1]


@pytest.mark.parametrize("card", sorted(ZOO.glob("*/README.md")), ids=lambda card: card.parent.name)
def test_the_command_of_a_card_makes_the_recipe_of_its_learner(card: Path) -> None:
    context = parsed(shlex.split(last_training(card))[1:])
    # An option that may be given several times is an empty tuple until typer calls the command.
    given = {name: None if value == () else value for name, value in context.params.items()}
    options = TrainOptions(**given)
    settings = explicit_settings(options)
    name = DatasetChoice.parse(settings["dataset"]).name
    if name in FUNCTIONS:
        recipe: Any = function_recipe(settings, function_family(name, None))
    else:
        assert name in PUBLISHED
        recipe = class_recipe(settings, warm_start=None if options.init is None else "0" * 64)
    config = LearnerConfig.model_validate_json((card.parent / CONFIG_FILE).read_bytes())
    assert recipe.method == config.method
    assert recipe.hparams.items() <= config.hparams.items()
    assert recipe.dataset == config.training["dataset"]
    assert recipe.train.seed == config.training["seed"]
    assert recipe.train.steps == config.training.get("steps", recipe.train.steps)
    assert (options.init is None) == (" && " not in str(config.training["command"]))
