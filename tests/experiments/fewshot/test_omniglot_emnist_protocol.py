"""Omniglot→EMNIST: who may be measured, and what is forgiven."""

import pytest
import torch

from experiments.errors import ExperimentError
from experiments.fewshot import omniglot_emnist_protocol as emnist
from experiments.fewshot.table_rows import EvaluationPlan
from models.data.dataset import ClassDataset
from models.encoders.identity import Identity, IdentityConfig
from models.evaluation.calibrate import CalibrationPlan, calibrate
from models.evaluation.episodic import embed_all
from models.fewshot.protonet import ProtoNet, ProtoNetConfig
from models.inputs import VectorInput

ACCEPTED = next(iter(emnist.TRAINING_CLASSES))
NAMES = ("P", "p", "3", "b", "t", "X")


def learner_and_data() -> tuple[ProtoNet, ClassDataset]:
    """Classes far apart, but for `P` and `p`, which are the same."""
    place = torch.tensor([0, 0, 1, 2, 3, 4])
    labels = torch.arange(6).repeat_interleave(25)
    noise = 0.01 * torch.randn(150, 6, generator=torch.Generator().manual_seed(0))
    values = torch.nn.functional.one_hot(place[labels], 6).float() + noise
    data = ClassDataset("made up", values, labels, NAMES, torch.zeros(6, dtype=torch.long))
    learner = ProtoNet(Identity(IdentityConfig()), ProtoNetConfig()).eval()
    features = embed_all(learner, data.inputs, data.labels, data.domains)
    calibrate(learner, [features], CalibrationPlan(tasks=2, gold_tasks=2, set_tasks=4))
    return learner, data


def test_what_looks_the_same_is_forgiven_in_a_column_of_its_own() -> None:
    learner, data = learner_and_data()
    found = emnist.evaluate(
        learner, VectorInput(), ACCEPTED, data, EvaluationPlan(tasks=4, disagreement_tasks=2)
    )
    for row in found["accuracy"]:
        assert row["accuracy"]["n"] == 4 * emnist.SEEDS
        assert row["accuracy"]["mean"] < row["case_merged"]["mean"] == 1.0
    assert [row["shot"] for row in found["cells"]] == [1, 5]


@pytest.mark.parametrize("digest", [None, "0" * 64])
def test_a_learner_that_may_have_seen_latin_is_refused(digest: str | None) -> None:
    learner, data = learner_and_data()
    with pytest.raises(ExperimentError, match="without Latin"):
        emnist.evaluate(learner, VectorInput(), digest, data, EvaluationPlan(tasks=1))
