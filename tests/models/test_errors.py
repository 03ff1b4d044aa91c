"""Every exception of `models` has one root."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import models
from models.errors import ModelError


def test_every_exception_of_models_is_a_model_error() -> None:
    names = [module.name for module in pkgutil.walk_packages(models.__path__, "models.")]
    own = [
        found
        for name in names
        if not name.startswith("models.testing")
        for found in vars(importlib.import_module(name)).values()
        if inspect.isclass(found) and issubclass(found, BaseException) and found.__module__ == name
    ]
    assert {found.__name__ for found in own} >= {
        "LearnerError",
        "DatasetError",
        "ArtifactError",
        "InputError",
    }
    assert [found for found in own if not issubclass(found, ModelError)] == []
    assert all(found.__name__.endswith("Error") for found in own)
