"""A folder belongs to one training: what was asked stands in it, and other settings are refused."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ValidationError

from models.errors import ModelError

_RECIPE_FILE = "recipe.json"


class RecipeError(ModelError, ValueError):
    """A training cannot be started or resumed as asked."""


def _written(kind: type[BaseModel], file: Path) -> str | None:
    """The recipe of a file as one of today; None where it is none."""
    try:
        return kind.model_validate_json(file.read_bytes()).model_dump_json(indent=1) + "\n"
    except ValidationError:
        return None


def claim(folder: Path, recipe: BaseModel) -> None:
    """Writes the recipe into the folder, or checks that the one there is the same, what it leaves out being default."""
    file = folder / _RECIPE_FILE
    described = recipe.model_dump_json(indent=1) + "\n"
    if file.exists():
        if _written(type(recipe), file) != described:
            raise RecipeError(
                f"{folder} holds another training (see {file}); choose another name or remove it"
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(described, encoding="utf-8")
