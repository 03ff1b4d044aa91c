"""The family table: who has a row, on which track, and that each figure is the one it says it is."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from experiments.errors import ExperimentError
from experiments.fewshot import family_table, reliability_diagrams
from experiments.fewshot.family_page import page
from experiments.fewshot.omniglot_emnist_protocol import SEEDS, TRAINING_CLASSES
from experiments.fewshot.reported_emnist import FIELD, OF_METHOD
from experiments.fewshot.table_rows import EvaluationPlan
from experiments.fewshot.uncertainty import PredictedQueries, selective
from experiments.fewshot.uncertainty import reliability as bins_of
from models.artifact import Artifact
from models.data.dataset import ClassDataset
from models.evaluation.calibrate import CalibrationPlan, calibrate
from models.evaluation.episodic import embed_all
from models.evaluation.scores import calibration_error
from models.inputs import VectorInput
from models.registry import LearnerConfig, build

PLAIN, TURNED = list(TRAINING_CLASSES)[:2]
PLAN = EvaluationPlan(tasks=2, disagreement_tasks=1)
NAMES = tuple("PpQ3btXy")


def data() -> ClassDataset:
    labels = torch.arange(len(NAMES)).repeat_interleave(26)
    rng = torch.Generator().manual_seed(0)
    values = torch.nn.functional.one_hot(labels, 8).float() + 0.3 * torch.randn(len(labels), 8, generator=rng)
    return ClassDataset("made up", values, labels, NAMES, torch.zeros(len(NAMES), dtype=torch.long))


def made(method: str, *, classes: str | None = PLAIN, command: str = "train --augmentation 0") -> Artifact:
    config = LearnerConfig(
        code_version="0",
        method=method,
        encoder="identity",
        encoder_hparams={"dim": 8},
        input=VectorInput(),
        training_classes=classes,
        training={"command": command},
    )
    torch.manual_seed(0)
    learner, test = build(config).eval().requires_grad_(False), data()
    features = embed_all(learner, test.inputs, test.labels, test.domains)
    calibrate(learner, [features], CalibrationPlan(tasks=2, gold_tasks=2, set_tasks=4))
    return Artifact(method, config, "0" * 64, learner, "", Path())


def table(*found: Artifact) -> dict[str, object]:
    return family_table.evaluate(found, data(), PLAN, lambda name: None)


def test_who_may_have_seen_latin_has_no_row_but_a_reason() -> None:
    stranger = replace(made("protonet", classes="0" * 64), name="stranger")
    found = table(made("protonet"), stranger)
    assert [row["learner"] for row in found["family"]] == ["protonet"]
    assert found["left_out"] == [{"learner": "stranger", "reason": "not trained on Omniglot without Latin"}]
    with pytest.raises(ExperimentError, match="stranger: not trained"):
        table(stranger)
    with pytest.raises(ExperimentError, match="there are none"):
        table()


@pytest.mark.parametrize(
    ("command", "classes", "track"),
    [
        ("hyperserve train --augmentation 0 --steps 9", PLAIN, "paper"),
        ("hyperserve train --augmentation=0.0", PLAIN, "paper"),
        ("hyperserve train --augmentation 1.2", PLAIN, "open"),
        ("hyperserve train --steps 9", PLAIN, "open"),
        ("hyperserve train --augmentation 0", TURNED, "open"),
        ("hyperserve train --augmentation 0 && hyperserve train --init a", PLAIN, "open"),
    ],
)
def test_the_paper_track_is_without_augmentation_and_rotations(
    command: str, classes: str, track: str
) -> None:
    config = made("protonet", classes=classes, command=command).config
    assert family_table.track_of(config) == track


def test_a_row_is_held_against_the_report_of_its_method_and_on_the_open_track_against_the_best() -> None:
    paper, opened = table(made("protonet"), replace(made("protonet", command="train"), name="open"))["family"]
    report = OF_METHOD["protonet"]
    for row, figures in ((paper, report), (opened, FIELD)):
        for cell in row["cells"]:
            assert cell["reported"]["as_reported"] == figures.at(cell["shot"])
            expected = cell["accuracy"]["mean"] - figures.at(cell["shot"])
            assert cell["reported"]["difference_inductive"] == pytest.approx(expected)
    assert table(made("ppa"))["family"][0]["cells"][0]["reported"] is None, "no report, no difference"


def test_pitfall_18_every_record_says_how_many_tasks_and_seeds_and_which_interval() -> None:
    found = table(made("protonet"))
    for cell in found["family"][0]["cells"]:
        assert cell["accuracy"]["n"] == cell["n_tasks"] == PLAN.tasks * SEEDS
        assert cell["std_over_seeds"] >= 0
    said = page(found)
    assert f"{PLAN.tasks} for each of {SEEDS} seeds from {PLAN.seed}" in said
    assert "95 % interval over tasks" in said
    assert "over training runs" in said


def test_pitfall_16_every_record_names_the_source_of_the_images() -> None:
    found = table(made("protonet"))
    assert found["images"] == "made up"
    assert "- images: made up" in page(found)


def test_a_stochastic_learner_has_mean_weights_and_an_epistemic_part_and_others_do_not() -> None:
    stochastic, plain = table(made("bayeshmaml"), made("protonet"))["family"]
    for cell in stochastic["cells"]:
        assert cell["epistemic"]["ratio"] > 0
        assert 0 <= cell["mean_weights_accuracy"]["mean"] <= 1
        assert cell["renamed"]["labels_changed"]["mean"] >= 0
    assert all(cell["epistemic"] is None for cell in plain["cells"])
    assert all(cell["mean_weights_accuracy"] is None for cell in plain["cells"])
    assert plain["cells"][0]["unknown"]["auroc_pooled"] > 0.5
    said = page({**table(made("protonet"))})
    assert "None of these learners is stochastic." in said


def test_selective_answers_are_those_of_the_surest() -> None:
    queries = PredictedQueries(torch.arange(10) / 10, torch.tensor([False] * 5 + [True] * 5))
    assert [(row["answered"], row["accuracy"]) for row in selective(queries)] == [
        (1.0, 0.5),
        (0.9, pytest.approx(5 / 9)),
        (0.8, 0.625),
        (0.5, 1.0),
    ]


def test_bins_of_the_diagram_sum_to_the_calibration_error() -> None:
    rng = torch.Generator().manual_seed(0)
    queries = PredictedQueries(torch.rand(500, generator=rng), torch.rand(500, generator=rng) < 0.5)
    bins = [one for one in bins_of(queries) if one["accuracy"] is not None]
    error = sum(one["share"] * abs(one["accuracy"] - one["confidence"]) for one in bins)
    assert_close(error, calibration_error(queries.confidence, queries.right))
    empty = bins_of(PredictedQueries(torch.full((3,), 0.99), torch.ones(3, dtype=torch.bool)))
    assert empty[0]["accuracy"] is None, "nothing is said of a bin without queries"
    png = reliability_diagrams.diagrams(
        [{"way": 5, "shot": shot, "ece": 0.1, "reliability": empty} for shot in (1, 5)], "a title"
    )
    assert Image.open(io.BytesIO(png)).format == "PNG"
    assert len(png) < 20_000
