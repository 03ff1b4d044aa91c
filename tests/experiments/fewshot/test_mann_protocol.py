"""Accuracy by instance: which example of its class a step shows, and who may be measured."""

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from experiments.errors import ExperimentError
from experiments.fewshot.mann_protocol import evaluate, instances_right
from experiments.fewshot.table_rows import EvaluationPlan
from models.encoder_protocol import EncoderConfig
from models.encoders.identity import Identity
from models.encoders.pixels import Pixels, PixelsConfig
from models.fewshot.mann import Mann, MannConfig
from models.fewshot.protonet import ProtoNet, ProtoNetConfig
from models.inputs import ImageInput
from models.protocol import Support
from tests.models.glyph_data import glyphs

SMALL = {"ways": 3, "hidden": 8, "slots": 6, "width": 4, "heads": 2}


def test_steps_are_counted_by_the_class_that_they_show() -> None:
    """Classes 0 and 1 come as 0 1 1 0; right are the first of class 0 and both of class 1."""
    targets = torch.tensor([[0, 1, 1, 0]])
    answered = torch.tensor([[0, 1, 1, 1]])
    stream = Support.of(torch.zeros(1, 4, 1), targets)
    found = instances_right(F.one_hot(answered, 2).float(), stream)
    assert_close(found, torch.tensor([[1.0, 0.5]]))


def test_the_table_has_the_published_instances_over_rotated_characters() -> None:
    torch.manual_seed(0)
    learner = Mann(Pixels(PixelsConfig()), MannConfig.model_validate(SMALL)).requires_grad_(False)
    data = glyphs(classes=4, examples=10)
    made = evaluate(learner, ImageInput(), data, EvaluationPlan(tasks=3))
    assert made == evaluate(learner, ImageInput(), data, EvaluationPlan(tasks=3))
    assert made["classes"] == 16
    assert [row["instance"] for row in made["instances"]] == [1, 2, 3, 4, 5, 10]
    assert all(row["accuracy"]["n"] == 3 for row in made["instances"])


def test_a_learner_that_reads_no_stream_is_refused() -> None:
    learner = ProtoNet(Identity(EncoderConfig()), ProtoNetConfig())
    with pytest.raises(ExperimentError, match="method mann"):
        evaluate(learner, ImageInput(), glyphs(classes=4, examples=10), EvaluationPlan(tasks=1))
