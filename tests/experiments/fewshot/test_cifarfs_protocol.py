"""CIFAR-FS: who may be measured, and what stands in the table."""

import pytest
import torch

from experiments.errors import ExperimentError
from experiments.fewshot import cifarfs_protocol as cifarfs
from experiments.fewshot.table_rows import EvaluationPlan
from models.evaluation.calibrate import CalibrationPlan, calibrate
from models.inputs import ImageInput, InputSpec, PhotoInput
from models.protocol import MetaLearner
from models.registry import LearnerConfig, build, complete
from models.training.recipe import embed
from tests.models.photo_data import photos

TEST = photos(classes=7, examples=25, seed=2)


def described(spec: InputSpec, classes: str | None) -> LearnerConfig:
    return complete(
        LearnerConfig(
            code_version="0",
            method="protonet",
            encoder="conv4-rgb",
            encoder_hparams={"widths": [4, 4, 4, 6], "mirrored": True},
            input=spec,
            training_classes=classes,
        )
    )


def learner(config: LearnerConfig) -> MetaLearner:
    torch.manual_seed(0)
    made = build(config).eval().requires_grad_(False)
    spaces = [embed(made, TEST, config.input)]
    calibrate(made, spaces, CalibrationPlan(tasks=2, gold_tasks=2, set_tasks=4))
    return made


def test_the_table_names_widths_seeds_and_what_others_report() -> None:
    config = described(PhotoInput(), cifarfs.TRAINING_CLASSES)
    found = cifarfs.evaluate(learner(config), config, TEST, EvaluationPlan(tasks=3, disagreement_tasks=2))
    assert [(row["way"], row["shot"], row["accuracy"]["n"]) for row in found["accuracy"]] == [
        (5, 1, 3 * cifarfs.SEEDS),
        (5, 5, 3 * cifarfs.SEEDS),
    ]
    assert all(row["accuracy"]["mean"] > 0.4 for row in found["accuracy"])
    assert found["encoder"] == "conv4-rgb 4-4-4-6, features averaged over mirror images"
    assert {(row["name"], row["widths"]) for row in found["reported"]} >= {
        ("R2-D2", "64-64-64-64"),
        ("R2-D2", "96-192-384-512"),
    }
    assert "inductive" in found["protocol"]


@pytest.mark.parametrize(
    ("spec", "classes", "said"),
    [
        (PhotoInput(), None, "training classes"),
        (PhotoInput(), "0" * 64, "training classes"),
        (ImageInput(), cifarfs.TRAINING_CLASSES, "colour images"),
    ],
)
def test_a_learner_of_other_classes_or_other_pictures_is_refused(
    spec: InputSpec, classes: str | None, said: str
) -> None:
    config = described(PhotoInput(), None)
    with pytest.raises(ExperimentError, match=said):
        cifarfs.evaluate(build(config), described(spec, classes), TEST, EvaluationPlan(tasks=1))
