"""Hypernet-PPA against its equation, one class at a time."""

from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from models.bayes.calibration import Calibration
from models.encoder_protocol import EncoderConfig
from models.encoders.identity import Identity, IdentityConfig
from models.fewshot.ppa import Ppa, PpaConfig
from models.protocol import LearnerError, Support
from tests.models.fewshot.short_training import trained

TARGETS = torch.tensor([[0, 1, 2, 0, 2, 0]])


def learner_of(depth: int = 2) -> Ppa:
    torch.manual_seed(0)
    config = PpaConfig(hidden=7, depth=depth)
    return Ppa(Identity(IdentityConfig(dim=4)), config).eval().requires_grad_(False)


def drawn(count: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(1, count, 4, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_each_row_is_the_network_of_its_mean(depth: int) -> None:
    learner, x, query = learner_of(depth), drawn(6), drawn(3, seed=2)
    expected = []
    for label in range(3):
        written = learner.hypernet(x[0, TARGETS[0] == label].mean(0))
        expected.append(query[0] @ written[:4] + written[4])
    answer = learner.predict(learner.adapt(Support.of(x, TARGETS)), query)
    assert_close(answer.log_probs[0], torch.stack(expected, dim=1).log_softmax(-1))
    assert answer.novelty is not None
    assert_close(answer.novelty[0], -torch.stack(expected).amax(0))


def test_class_order_another_order_of_classes_turns_the_answers() -> None:
    learner, x, query = learner_of(), drawn(6), drawn(5, seed=2)
    turned = torch.tensor([2, 0, 1])
    one = learner.predict(learner.adapt(Support.of(x, TARGETS)), query)
    other = learner.predict(learner.adapt(Support.of(x, turned[TARGETS])), query)
    assert_close(other.log_probs[..., turned], one.log_probs)


def test_fixed_way_a_class_never_sees_its_neighbours() -> None:
    learner, x = learner_of(), drawn(6)
    alone = learner.adapt(Support.of(x, TARGETS)).rows["weight"]
    with_another = Support.of(
        torch.cat((x, drawn(1, seed=3)), 1), torch.cat((TARGETS, torch.tensor([[3]])), 1)
    )
    assert_close(learner.adapt(with_another).rows["weight"][:, :3], alone)


def test_nothing_is_made_up() -> None:
    learner = learner_of()
    answer = learner.predict(learner.adapt(Support.of(drawn(6), TARGETS)), drawn(2))
    assert answer.epistemic is None
    assert answer.unknown is None


def test_features_of_any_length_are_refused() -> None:
    with pytest.raises(LearnerError, match="fixed feature length"):
        Ppa(Identity(EncoderConfig()), PpaConfig())


def test_a_short_training_learns(tmp_path: Path) -> None:
    made = trained(tmp_path, "ppa", training_steps=60, hidden=32)
    assert made.config.metrics["validation"]["accuracy_5w1s"] > 0.4
    calibration = made.learner.calibration
    assert isinstance(calibration, Calibration)
    assert bool(calibration.has_unknown)
