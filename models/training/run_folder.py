"""The folder of a training: it holds the recipe, and other settings are refused."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ValidationError

from models.errors import ModelError

_RECIPE_FILE = "recipe.json"


class RecipeError(ModelError, ValueError):
    """A training cannot be started or resumed with these settings."""


def _written(kind: type[BaseModel], file: Path) -> str | None:
    """Return the recipe of a file in today's form; None if it holds none."""
    try:
        return kind.model_validate_json(file.read_bytes()).model_dump_json(indent=1) + "\n"
    except ValidationError:
        return None


def claim(folder: Path, recipe: BaseModel) -> None:
    """Write the recipe into the folder, or check that the one there is equal; settings it lacks have defaults.

    Raises `RecipeError`.
    """
    file = folder / _RECIPE_FILE
    described = recipe.model_dump_json(indent=1) + "\n"
    if file.exists():
        if _written(type(recipe), file) != described:
            raise RecipeError(
                f"{folder} holds another training (see {file}); choose another name or remove the folder"
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(described, encoding="utf-8")
