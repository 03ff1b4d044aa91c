"""Recipes of `hyperserve train`: a file, options over it, and `--set` over both."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from app.cli.errors import MisuseError
from app.cli.train_data import DatasetChoice, function_family
from app.cli.train_options import TrainOptions
from app.cli.train_recipe import (
    as_options,
    class_recipe,
    default_name,
    explicit_settings,
    function_recipe,
    merged,
)
from models import artifact
from models.training.recipe import Recipe
from tests.app.cli.commands import run

TOML = """
dataset = "omniglot, mirrored"
method = "protonet"
[train]
steps = 40
weight_decay = 0.1
[episodes]
max_way = 10
"""


def recipe_of(**options: Any) -> Recipe:
    return class_recipe(explicit_settings(TrainOptions(name="x", **options)))


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    (tmp_path / "recipe.toml").write_text(TOML)
    return tmp_path / "recipe.toml"


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "hyperset-omniglot"),
        ({"method": "protonet", "dataset": "cifar-fs", "mirrored": True}, "protonet-cifar-fs"),
        ({"dataset": "sinusoids"}, "bayes-linear-sinusoids"),
        ({"dataset": "data/My Flowers (2).v1.zip"}, "hyperset-my-flowers-2-v1"),
        ({"dataset": "Äpfel.csv"}, "hyperset-apfel"),
        ({"dataset": "日本"}, "hyperset"),
        ({"dataset": "x" * 99}, f"hyperset-{'x' * 54}"),
        ({"settings": ["method=ridge"]}, "ridge-omniglot"),
    ],
)
def test_a_training_without_a_name_is_called_by_method_and_data(options: dict[str, Any], name: str) -> None:
    assert default_name(explicit_settings(TrainOptions(**options))) == name


def test_the_name_of_a_folder_is_used_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "v1.0").mkdir()
    monkeypatch.chdir(tmp_path / "v1.0")
    assert default_name({"dataset": "."}) == "hyperset-v1-0"


def test_without_a_file_options_stand_over_defaults() -> None:
    recipe = recipe_of()
    assert (recipe.method, recipe.encoder, recipe.dataset) == ("hyperset", "conv4", "omniglot")
    assert (recipe.train.steps, recipe.train.validate_every, recipe.train.precision) == (14_000, 500, "bf16")
    assert recipe.augmentation is not None
    assert recipe_of(steps=30).train.warm_up == 3
    assert recipe_of(augmentation=0.0).augmentation is None
    assert recipe_of(optimiser="gradient").search is None
    assert recipe_of(mirrored=True, rotated=False).dataset == "omniglot, mirrored, not rotated"


def test_options_stand_over_the_file_and_set_over_both(toml: Path) -> None:
    recipe = recipe_of(recipe=toml)
    assert (recipe.method, recipe.dataset, recipe.episodes.max_way) == ("protonet", "omniglot, mirrored", 10)
    assert (recipe.train.steps, recipe.train.weight_decay, recipe.train.lr) == (40, 0.1, 2e-3)
    recipe = recipe_of(
        recipe=toml, steps=50, mirrored=False, settings=["train.weight_decay=0", "train.steps=60"]
    )
    assert (recipe.dataset, recipe.train.steps, recipe.train.weight_decay) == ("omniglot", 60, 0)
    assert recipe_of(recipe=toml, hparam=["metric=cosine"]).hparams == {"metric": "cosine"}


def test_a_written_recipe_makes_itself_again(tmp_path: Path) -> None:
    recipe = recipe_of(
        mirrored=True,
        thicker=2.0,
        max_shot=3,
        calibration_tasks=5,
        pretraining_steps=3,
        steps=20,
        foreign=0.0,
    )
    (tmp_path / "recipe.json").write_text(recipe.model_dump_json())
    assert recipe_of(recipe=tmp_path / "recipe.json") == recipe
    settings = json.loads(recipe.model_dump_json())
    words = list(as_options(settings))[1::2]
    assert recipe_of(settings=words) == recipe


def test_a_recipe_of_functions_makes_itself_again(tmp_path: Path) -> None:
    family = function_family("gp", None)
    options = TrainOptions(name="x", dataset="gp", min_shot=4, tasks=3)
    recipe = function_recipe(explicit_settings(options), family)
    assert (recipe.functions.min_shot, recipe.functions.max_shot, recipe.functions.tasks) == (4, 10, 3)
    (tmp_path / "recipe.json").write_text(recipe.model_dump_json())
    again = TrainOptions(name="x", recipe=tmp_path / "recipe.json")
    assert function_recipe(explicit_settings(again), family) == recipe


def test_a_warm_start_needs_its_learner() -> None:
    settings = {"dataset": "omniglot", "warm_start": "a" * 64}
    with pytest.raises(MisuseError, match="give it by --init"):
        class_recipe(settings)
    assert class_recipe(settings, warm_start="a" * 64).warm_start == "a" * 64


@pytest.mark.parametrize("description", ["omniglot", "omniglot, mirrored", "omniglot, mirrored, not rotated"])
def test_a_described_data_set_is_read_back(description: str) -> None:
    assert DatasetChoice.parse(description).description == description


def test_tables_are_merged_and_values_replaced() -> None:
    assert merged({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 4}, "d": {"e": 5}}) == {
        "a": {"b": 4, "c": 2},
        "d": {"e": 5},
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--set train.wait=1", "train.wait: Extra inputs are not permitted"),
        ("--set train.steps=many", "train.steps: Input should be a valid integer"),
        ("--set train=1", "train"),
        ("--set steps", "'steps' is not of the form key=value"),
        ("--hparam hidden", "'hidden' is not of the form key=value"),
        ("--set method=x --set method.y=1", "method is set to a value already"),
        ("--set episodes=5", "episodes of the recipe must be a table"),
        ("--population 4", "search.optimiser: Field required"),
        ("--tasks 4", "--tasks: of no use with --dataset omniglot"),
        ("--dataset gp --crop --min-way 3", "--crop, --min-way: of no use with --dataset gp"),
        ("--encoder identity --thicker 2", "--thicker: of no use with --encoder identity"),
        ("--recipe none.json", "none.json: No such file"),
    ],
)
def test_what_is_no_recipe_is_refused(words: str, message: str, tmp_path: Path) -> None:
    code, said = run("train", "--name", "x", "--runs", str(tmp_path), *shlex.split(words))
    assert code == 2, said
    assert message in " ".join(said.split())
    assert not list(tmp_path.iterdir())


def test_the_recipe_of_a_training_is_given_again(tmp_path: Path) -> None:
    short = ("--steps", "4", "--validate-every", "2", "--tasks", "4", "--hparam", "width=8")
    words = ("train", "--runs", str(tmp_path), "--name")
    code, said = run(*words, "first", "--dataset", "sinusoids", *short, "--hparam", "features=4")
    assert code == 0, said
    code, said = run(*words, "second", "--recipe", str(tmp_path / "first" / "recipe.json"), "--seed", "0")
    assert code == 0, said
    first, second = (artifact.load(tmp_path / name / "learner") for name in ("first", "second"))
    assert first.learner.state_dict().keys() == second.learner.state_dict().keys()
    for name, value in first.learner.state_dict().items():
        assert value.equal(second.learner.state_dict()[name])
    command = str(second.config.training["command"])
    assert command.startswith("hyperserve train --name second --set")
    assert "recipe.json" not in command
    third = shlex.split(command.replace("second", "third"))[1:]
    code, said = run(*third, "--runs", str(tmp_path))
    assert code == 0, said
    recipes = [(tmp_path / name / "recipe.json").read_text() for name in ("first", "third")]
    assert recipes[0] == recipes[1]
