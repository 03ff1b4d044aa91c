"""A learner is measured in the cells that it supports."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from experiments.errors import ExperimentError
from experiments.fewshot import omniglot_protocol, paired_comparison, vectors_protocol
from experiments.fewshot.table_rows import EvaluationPlan, renamed_row
from models.data.dataset import model_input
from models.encoders.conv4 import Conv4, Conv4Config
from models.evaluation.calibrate import CalibrationPlan, calibrate
from models.evaluation.episodic import Cell, cells_of
from models.fewshot.hypershot import HyperShot, HyperShotConfig
from models.fewshot.protonet import ProtoNet, ProtoNetConfig
from models.inputs import ImageInput
from models.protocol import Span, Traits
from models.training.recipe import embed
from tests.models.glyph_data import glyphs

TEST, PLAIN = glyphs(), ImageInput()
TEST_VECTORS = replace(TEST, inputs=model_input(TEST))
"""Floats of any shape will do: the measure does not look at them."""


def fixed(ways: int) -> HyperShot:
    torch.manual_seed(0)
    config = HyperShotConfig(ways=ways, hidden=8)
    learner = HyperShot(Conv4(Conv4Config(width=4)), config).eval().requires_grad_(False)
    calibrate(learner, [embed(learner, TEST, PLAIN)], CalibrationPlan(tasks=2, gold_tasks=2, set_tasks=4))
    return learner


def protonet() -> ProtoNet:
    return ProtoNet(Conv4(Conv4Config(width=4)), ProtoNetConfig()).eval().requires_grad_(False)


@pytest.mark.parametrize(
    ("ways", "shots", "cells"),
    [
        (Span(2), Span(1), [(5, 1), (5, 5), (20, 1), (20, 5)]),
        (Span(5, 5), Span(1), [(5, 1), (5, 5)]),
        (Span(7, 7), Span(1), [(7, 1), (7, 5)]),
        (Span(2, 4), Span(1), [(4, 1), (4, 5)]),
        (Span(10), Span(1, 1), [(20, 1)]),
    ],
)
def test_cells_are_those_that_the_learner_takes(
    ways: Span, shots: Span, cells: list[tuple[int, int]]
) -> None:
    assert cells_of(Traits(ways=ways, shots=shots), (5, 20), (1, 5)) == [Cell(*cell) for cell in cells]


def test_omniglot_measures_a_fixed_way_at_its_way() -> None:
    found = omniglot_protocol.evaluate(fixed(3), PLAIN, TEST, EvaluationPlan(tasks=2, disagreement_tasks=2))
    for name in ("characters", "characters_with_rotations"):
        assert [(row["way"], row["shot"]) for row in found[name]] == [(3, 1), (3, 5)]
    assert [row["foreign"] for row in found["unknown"]] == ["any test alphabet", "same alphabet"] * 2
    assert {row["way"] for row in found["unknown"]} == {3}
    assert "epistemic" not in found, "a deterministic learner has none to measure"


def test_pitfall_04_what_other_names_of_the_classes_change_is_measured() -> None:
    plan = EvaluationPlan(tasks=20, disagreement_tasks=2)
    row = renamed_row(fixed(3), embed(fixed(3), TEST, PLAIN), Cell(3, 1), plan)
    assert row["probability_moved"]["mean"] > 0, "averages over turns still depend on the order a little"
    learner = protonet()
    row = renamed_row(learner, embed(learner, TEST, PLAIN), Cell(3, 1), plan)
    assert row["labels_changed"]["mean"] == row["probability_moved"]["mean"] == 0


def test_embeddings_are_measured_at_a_way_that_learner_and_data_have() -> None:
    found = vectors_protocol.evaluate(fixed(3), TEST_VECTORS, 2, 0)
    assert {cell["way"] for cell in found["cells"]} == {3}
    found = vectors_protocol.evaluate(protonet(), TEST_VECTORS, 2, 0)
    assert {cell["way"] for cell in found["cells"]} == {5, 12}


def test_learners_are_compared_where_both_answer() -> None:
    rows = paired_comparison.compare([(fixed(5), protonet())], TEST, 2, 0)
    assert [(row["way"], row["shot"]) for row in rows] == [(5, 1), (5, 2), (5, 5)]
    with pytest.raises(ExperimentError, match="no common number of classes"):
        paired_comparison.compare([(fixed(3), fixed(5))], TEST, 2, 0)
