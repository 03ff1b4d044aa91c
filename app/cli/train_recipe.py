"""Recipes of `hyperserve train`: defaults, then a recipe file, then options, then `--set`; later ones win."""

from __future__ import annotations

import json
import re
import tomllib
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from app.cli.command_options import key_value, key_values
from app.cli.errors import MisuseError
from app.cli.train_data import COMPLETION, FUNCTIONS, GP, OMNIGLOT, RANDOM, SINUSOIDS, DatasetChoice
from app.cli.train_options import TrainOptions
from app.core import devices
from models.data.episodes import EpisodeConfig
from models.data.functions import Family, FunctionConfig
from models.registry import METHODS
from models.training import user_dataset
from models.training.functions import FunctionRecipe
from models.training.recipe import Recipe, task_ways
from models.training.trainer import TrainConfig

Settings = dict[str, Any]
"""A recipe, or part of one, as it is written: nested by name."""

CLASS_METHOD, FUNCTION_METHOD = "hyperset", "bayes-linear"
FUNCTION_METHODS = {RANDOM: "gaussian-process"}
"""Methods of trainings that name none."""
_NAME_CHARACTERS = 63
_ANY = ("name", "recipe", "settings", "runs", "threads", "data", "hparam")
_BOTH = {
    "method": "method",
    "dataset": "dataset",
    "steps": "train.steps",
    "lr": "train.lr",
    "ema": "train.ema",
    "seed": "train.seed",
    "device": "train.device",
    "validate_every": "train.validate_every",
}
_CLASSES = _BOTH | {
    "encoder": "encoder",
    "crop": "crop",
    "min_way": "episodes.min_way",
    "max_way": "episodes.max_way",
    "min_shot": "episodes.min_shot",
    "max_shot": "episodes.max_shot",
    "queries": "episodes.queries",
    "foreign": "episodes.foreign",
    "within_domain": "episodes.within_domain",
    "examples_per_step": "episodes.examples_per_step",
    "precision": "train.precision",
    "pretraining_steps": "pretraining.steps",
    "optimiser": "search.optimiser",
    "objective": "search.objective",
    "population": "search.population",
    "sigma": "search.sigma",
    "searched": "search.parameters",
}
"""Options that are a setting of a recipe for classes."""
_FUNCTIONS = _BOTH | {
    "min_shot": "functions.min_shot",
    "max_shot": "functions.max_shot",
    "queries": "functions.queries",
    "tasks": "functions.tasks",
    "chosen_by": "chosen_by",
}
"""Options that are a setting of a recipe for functions."""
_COMPUTED = (
    *("emnist", "encoder_hparam", "mirrored", "rotated"),
    *("augmentation", "thicker", "init", "calibration_tasks"),
)
"""Options for classes that are more than one setting, or none."""
_SHOTS = {SINUSOIDS: (10, 10), GP: (3, 10), COMPLETION: (10, 200), RANDOM: (1, 100)}
_QUERIES = {SINUSOIDS: 10, GP: 10, COMPLETION: 200, RANDOM: 32}
_CHOSEN_BY = {"maml-regression": "mse"}
"""Scores of methods whose loss is no likelihood."""


def explicit_settings(options: TrainOptions) -> Settings:
    """Return the settings of the recipe file, the options and `--set`. Raises `MisuseError`."""
    written = {} if options.recipe is None else read_recipe(options.recipe)
    last: Settings = {}
    for pair in options.settings or ():
        _put(last, *key_value(pair))
    first = {"dataset": OMNIGLOT, "encoder": "conv4", **written}
    given = {name: value for name in first if (value := getattr(options, name, None)) is not None}
    resolved = first | given | last
    chosen = DatasetChoice.parse(str(resolved["dataset"]))
    on_functions = chosen.name in FUNCTIONS
    _check_applicable(options, chosen.name, _FUNCTIONS if on_functions else (*_CLASSES, *_COMPUTED))
    from_options: Settings = {}
    for name, path in (_FUNCTIONS if on_functions else _CLASSES).items():
        if (value := getattr(options, name)) is not None:
            _put(from_options, path, value)
    if options.hparam:
        from_options["hparams"] = key_values(options.hparam)
    if not on_functions:
        from_options |= _computed(options, resolved["encoder"])
    settings = merged(merged(written, from_options), last)
    mirrored = chosen.mirrored if options.mirrored is None else options.mirrored
    rotated = chosen.rotated if options.rotated is None else options.rotated
    return settings | {"dataset": DatasetChoice(chosen.name, mirrored, rotated).description}


def default_name(settings: Mapping[str, Any]) -> str:
    """Return the name of a training that was given none: method and data set, such as hyperset-omniglot."""
    chosen = DatasetChoice.parse(str(settings["dataset"]))
    of_functions = FUNCTION_METHODS.get(chosen.name, FUNCTION_METHOD)
    method = settings.get("method", of_functions if chosen.name in FUNCTIONS else CLASS_METHOD)
    path = Path(chosen.name).resolve()
    words = f"{method}-{path.name if path.is_dir() else path.stem}"
    plain = unicodedata.normalize("NFKD", words).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain)[:_NAME_CHARACTERS].strip("-")


def read_recipe(file: Path) -> Settings:
    """Read a file of settings. Raises `MisuseError` if it is neither JSON nor TOML of one table."""
    text = file.read_text(encoding="utf-8")
    try:
        found = tomllib.loads(text) if file.suffix == ".toml" else json.loads(text)
    except ValueError as error:
        raise MisuseError(f"{file} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise MisuseError(f"{file} holds no table of settings")
    return found


def class_recipe(
    settings: Mapping[str, Any], shape: tuple[int, ...] | None = None, warm_start: str | None = None
) -> Recipe:
    """Return the recipe of a training on classes, whose examples have `shape` if the data are the user's own.

    `warm_start` is the digest of the learner to start from. Raises `MisuseError`, `ValidationError`.
    """
    if (needed := settings.get("warm_start")) not in (None, warm_start):
        raise MisuseError(f"the recipe starts from the learner with digest {needed}: give it by --init")
    method, encoder = settings.get("method", CLASS_METHOD), settings.get("encoder", "conv4")
    encoder_hparams = user_dataset.encoder_hparams(encoder, shape) | _section(settings, "encoder_hparams")
    episodes = EpisodeConfig.model_validate(_section(settings, "episodes"))
    low, high = _given(episodes, "min_way"), _given(episodes, "max_way")
    strengths = _augmentation(encoder, 1.0, None)
    defaults = {
        "method": method,
        "encoder": encoder,
        "encoder_hparams": encoder_hparams,
        "episodes": task_ways(method, _section(settings, "hparams"), encoder, low, high, encoder_hparams),
        "augmentation": strengths,
        "train": {"steps": 14_000, "validate_every": 500, "precision": "bf16"},
    }
    recipe = Recipe.model_validate(merged(defaults, settings) | {"warm_start": warm_start})
    return recipe.model_copy(update={"train": _completed(recipe.train)})


def function_recipe(settings: Mapping[str, Any], family: Family) -> FunctionRecipe:
    """Return the recipe of a training on functions. Raises `MisuseError`, `ValidationError`."""
    dataset = settings["dataset"]
    method = settings.get("method", FUNCTION_METHODS.get(dataset, FUNCTION_METHOD))
    functions = FunctionConfig.model_validate(_section(settings, "functions"))
    min_shot, max_shot = _given(functions, "min_shot"), _given(functions, "max_shot")
    low, high = _SHOTS[dataset]
    high = max(high, min_shot or 0) if max_shot is None else max_shot
    lengths = {"dim": family.dim, "target": family.target}
    known = METHODS[method].Config.model_fields if method in METHODS else lengths
    more = {"tasks": 16, "logarithmic": True, "beyond": 0.25} if dataset == RANDOM else {}
    defaults = {
        "method": method,
        "hparams": {name: length for name, length in lengths.items() if length is not None and name in known},
        "functions": {"min_shot": min(low, high), "max_shot": high, "queries": _QUERIES[dataset], **more},
        "chosen_by": _CHOSEN_BY.get(method, "nll"),
        "train": {"steps": 20_000, "lr": 1e-3, "weight_decay": 0.0},
    }
    recipe = FunctionRecipe.model_validate(merged(defaults, settings))
    return recipe.model_copy(update={"train": _completed(recipe.train)})


def as_options(settings: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Write settings as words of a command line, `--set` before each."""
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from as_options(value, f"{path}{name}.")
        else:
            yield from ("--set", f"{path}{name}={json.dumps(value, ensure_ascii=False)}")


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> Settings:
    """Return `below` with the settings of `above` over it, table by table."""
    found = dict(below)
    for name, value in above.items():
        under = found.get(name)
        both = isinstance(value, Mapping) and isinstance(under, Mapping)
        found[name] = merged(under, value) if both else value  # type: ignore[arg-type]
    return found


def _check_applicable(options: TrainOptions, dataset: str, applicable: Any) -> None:
    allowed = {*_ANY, *applicable}
    wrong = [
        f"--{field.name.replace('_', '-')}"
        for field in fields(options)
        if field.name not in allowed and getattr(options, field.name) is not None
    ]
    if wrong:
        raise MisuseError(f"{', '.join(wrong)}: of no use with --dataset {dataset}")


def _computed(options: TrainOptions, encoder: str) -> Settings:
    """Return the settings of options for classes that are more than one setting."""
    found: Settings = {}
    if options.encoder_hparam:
        found["encoder_hparams"] = key_values(options.encoder_hparam)
    if options.augmentation is not None or options.thicker is not None:
        strength = 1.0 if options.augmentation is None else options.augmentation
        found["augmentation"] = _augmentation(encoder, strength, options.thicker)
    if (tasks := options.calibration_tasks) is not None:
        found["calibration"] = {
            "tasks": tasks,
            "gold_tasks": max(2, tasks * 6 // 10),
            "set_tasks": 10 * tasks,
        }
    if options.optimiser == "gradient":
        found["search"] = None
    if options.pretraining_steps == 0:
        found["pretraining"] = None
    return found


def _augmentation(encoder: str, strength: float, thicker: float | None) -> Settings | None:
    """Return the augmentation of an encoder, scaled; None makes no changes."""
    usual = user_dataset.augmentation(encoder)
    found = {} if usual is None else usual.scaled(strength).model_dump()
    if thicker is not None:
        if "thicker" not in found:
            raise MisuseError(f"--thicker: of no use with --encoder {encoder}")
        found["thicker"] = thicker
    return found if strength and found else None


def _completed(train: TrainConfig) -> TrainConfig:
    """Return the schedule with a device that can be used; a short training does not spend itself on warming up."""
    update: Settings = {"device": devices.resolve_device(train.device)}
    if "warm_up" not in train.model_fields_set:
        update["warm_up"] = min(TrainConfig().warm_up, max(1, train.steps // 10))
    return train.model_copy(update=update)


def _given(config: EpisodeConfig | FunctionConfig, name: str) -> int | None:
    return getattr(config, name) if name in config.model_fields_set else None


def _section(settings: Mapping[str, Any], name: str) -> Settings:
    found = settings.get(name, {})
    if not isinstance(found, dict):
        raise MisuseError(f"{name} of the recipe must be a table of settings, not {found!r}")
    return found


def _put(settings: Settings, path: str, value: Any) -> None:
    *parts, last = path.split(".")
    for part in parts:
        settings = settings.setdefault(part, {})
        if not isinstance(settings, dict):
            raise MisuseError(f"--set {path}: {part} is set to a value already")
    settings[last] = value
