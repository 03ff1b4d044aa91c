"""A training from start to artifact, on drawings made here; a fixed way rules all of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from models import artifact
from models.data.dataset import DatasetError
from models.data.episodes import EpisodeConfig
from models.data.glyph_augmentation import GlyphAugmentation
from models.evaluation.calibrate import CalibrationPlan
from models.registry import RegistryError
from models.training.recipe import Recipe, TrainingData, task_ways, train
from models.training.run_folder import RecipeError, claim
from models.training.trainer import TrainConfig
from tests.models.glyph_data import glyphs

THREE: dict[str, object] = {"ways": 3, "hidden": 8}


@pytest.mark.parametrize(
    ("method", "hparams", "asked", "ways"),
    [
        ("hyperset", {}, (None, None), (5, 60)),
        ("hyperset", {}, (20, None), (20, 60)),
        ("hyperset", {}, (None, 4), (4, 4)),
        ("hyperset", {}, (80, None), (80, 80)),
        ("hypershot", {}, (None, None), (5, 5)),
        ("hypershot", {"ways": 3}, (None, None), (3, 3)),
        ("hypershot", {"ways": 80}, (None, None), (80, 80)),
        ("hypershot", {}, (5, 5), (5, 5)),
        ("hypershot", {}, (None, 20), (5, 20)),
    ],
)
def test_ways_are_those_asked_for_else_what_the_method_takes(
    method: str, hparams: dict[str, object], asked: tuple[int | None, int | None], ways: tuple[int, int]
) -> None:
    assert tuple(task_ways(method, hparams, "conv4", *asked).values()) == ways


def test_ways_of_an_unknown_method_name_the_culprit() -> None:
    with pytest.raises(RegistryError, match="'magic'"):
        task_ways("magic", {}, "conv4")


def recipe(**episodes: object) -> Recipe:
    tasks = {"min_way": 3, "max_way": 3, "max_shot": 3, "queries": 2, "examples_per_step": 30, **episodes}
    return Recipe(
        method="hypershot",
        hparams=THREE,
        encoder_hparams={"width": 4},
        dataset="drawn",
        episodes=EpisodeConfig.model_validate(tasks),
        augmentation=GlyphAugmentation(),
        train=TrainConfig(steps=3, validate_every=3, warm_up=1),
        calibration=CalibrationPlan(tasks=4, gold_tasks=2, set_tasks=20),
    )


def run(chosen: Recipe, folder: Path, classes: int = 12) -> str:
    data = TrainingData(glyphs(classes), [glyphs(8, seed=1)])
    return train(chosen, data, folder, "test", "hyperserve train", lambda row: None)


def test_a_fixed_way_is_trained_validated_and_calibrated_at_that_way(tmp_path: Path) -> None:
    run(recipe(), tmp_path / "mine")
    made = artifact.load(tmp_path / "mine" / "learner")
    assert made.learner.traits.ways.low == made.learner.traits.ways.high == 3
    scores = made.config.metrics["validation"]
    assert set(scores) == {"accuracy_3w1s", "nll_3w1s", "accuracy_3w5s", "nll_3w5s", "score"}
    calibration = made.learner.calibration
    assert bool(calibration.has_sets)
    assert bool(calibration.has_unknown)


@pytest.mark.parametrize("ways", [(3, 5), (2, 3), (5, 60), (5, 3)])
def test_ways_that_contradict_the_method_are_refused(tmp_path: Path, ways: tuple[int, int]) -> None:
    with pytest.raises(RecipeError, match="hypershot as described takes 3 classes"):
        run(recipe(min_way=ways[0], max_way=ways[1]), tmp_path / "mine")


def test_too_few_classes_for_the_way_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="3 classes are too few"):
        run(recipe(), tmp_path / "mine", classes=3)


def test_a_setting_that_is_new_since_a_training_began_does_not_end_it(tmp_path: Path) -> None:
    recipe = Recipe(method="protonet", encoder="conv4", dataset="any")
    claim(tmp_path, recipe)
    file = tmp_path / "recipe.json"
    older = json.loads(file.read_text())
    del older["train"]["weight_decay"]
    file.write_text(json.dumps(older))
    claim(tmp_path, recipe)
    other = recipe.model_copy(update={"train": TrainConfig(weight_decay=0.5)})
    with pytest.raises(RecipeError, match="holds another training"):
        claim(tmp_path, other)
    file.write_text("{")
    with pytest.raises(RecipeError, match="holds another training"):
        claim(tmp_path, recipe)
