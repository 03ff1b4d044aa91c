"""A user's own data: the smallest that train, and what is said of those that do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from models import artifact
from models.data.dataset import ClassDataset, DatasetError
from models.data.errors import DatasetFileError
from models.protocol import Span
from models.registry import RegistryError
from models.training import recipe, user_dataset
from models.training.user_dataset import TrainingOptions


def asked(**changes: Any) -> TrainingOptions:
    given: dict[str, Any] = {"method": "hyperset", "encoder": "identity", "min_way": 2, "max_way": 5}
    given |= {"min_shot": 1, "max_shot": 5, "queries": 2, "steps": 3, "seed": 0, "hparams": {}}
    return TrainingOptions.model_validate(given | changes)


def points(classes: int, examples: int, dim: int = 5) -> ClassDataset:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(classes).repeat_interleave(examples)
    means = 3 * torch.randn(classes, dim, generator=generator)
    x = means[labels] + 0.5 * torch.randn(len(labels), dim, generator=generator)
    names = tuple(f"class-{index}" for index in range(classes))
    return ClassDataset("points", x, labels, names, torch.zeros(classes, dtype=torch.long))


@pytest.mark.parametrize(
    ("method", "hparams", "ways", "classes"),
    [
        ("protonet", {}, Span(2), 6),
        ("hyperset", {"width": 8, "depth": 1, "heads": 1}, Span(2), 6),
        ("hypershot", {"ways": 3, "hidden": 8, "target_hidden": 8}, Span(3, 3), 8),
    ],
)
def test_the_smallest_data_that_pass_the_check_make_a_learner(
    tmp_path: Path, method: str, hparams: dict[str, object], ways: Span, classes: int
) -> None:
    data = points(classes, user_dataset.LEAST_EXAMPLES)
    settings = user_dataset.encoder_hparams("identity", (5,))
    assert user_dataset.ways_of(method, hparams, "identity", settings) == ways
    wanted = asked(method=method, hparams=hparams, min_way=ways.low, max_way=ways.high or 5)
    user_dataset.check(wanted, data.counts, ways)
    material = user_dataset.training_data(data, "identity", 0, ways)
    chosen = user_dataset.recipe(wanted, "points", settings, "cpu")
    recipe.train(chosen, material, tmp_path, "test", "none", lambda _: None, name="small")
    made = artifact.load(tmp_path / "learner")
    assert made.config.input.model_dump() == {"kind": "vector", "dim": 5}
    assert made.config.metrics["validation"]["score"] > 0.5
    with pytest.raises(DatasetFileError, match="in all"):
        user_dataset.check(wanted, points(classes - 1, 9).counts, ways)


@pytest.mark.parametrize(
    ("classes", "examples", "changes", "message", "limit"),
    [
        (
            5,
            9,
            {},
            "5 classes, of which 3 are held out for validation; tasks of 2 classes .* 3 of the others, 6",
            6,
        ),
        (12, 9, {"min_way": 10, "max_way": 10}, "need 11 of the others, 14 in all", 14),
        (12, 3, {}, "The class class-0 has 3 examples; tasks of 1 shots and 2 queries need 4", 4),
        (12, 9, {"min_shot": 5, "queries": 5}, "need 10 of each class", 10),
    ],
)
def test_what_is_short_is_said(
    classes: int, examples: int, changes: dict[str, int], message: str, limit: int
) -> None:
    with pytest.raises(DatasetFileError, match=message) as caught:
        user_dataset.check(asked(**changes), points(classes, examples).counts, Span(2))
    assert (caught.value.code, caught.value.limit) == ("dataset_too_small", limit)


def test_an_encoder_of_another_input() -> None:
    with pytest.raises(DatasetError, match="holds vectors; the encoder conv4 takes images"):
        user_dataset.training_data(points(9, 5), "conv4", 0, Span(2))


@pytest.mark.parametrize(
    "hparams", [{"hidden": 10**9}, {"hidden": 2048, "neck": 2048}, {"nope": 1}, {"hidden": "wide"}]
)
def test_a_learner_that_could_not_be_built_is_refused_before_it_is(hparams: dict[str, object]) -> None:
    with pytest.raises(RegistryError):
        user_dataset.ways_of("hypershot", hparams, "conv4", {})


def test_a_short_training_has_a_short_schedule() -> None:
    short, long = (user_dataset.recipe(asked(steps=steps), "points", {}, "cpu") for steps in (10, 100_000))
    assert (short.train.warm_up, short.train.ema, short.train.checkpoint_every) == (1, 0.0, 1)
    assert (long.train.warm_up, long.train.ema, long.train.checkpoint_every) == (300, 0.998, 100)
    assert (short.calibration.tasks, long.calibration.tasks) == (10, 100)
