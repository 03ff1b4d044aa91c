"""The classifying conditional neural process against its equation, one class and one query at a time."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from models.bayes.calibration import Calibration
from models.encoder_protocol import EncoderConfig
from models.encoders.identity import Identity, IdentityConfig
from models.fewshot.cnp import Cnp, CnpConfig
from models.protocol import LearnerError, Support
from models.weights import nbytes
from tests.models.fewshot.short_training import trained

TARGETS = torch.tensor([[0, 1, 2, 0, 2, 0]])


def learner_of(**changes: object) -> Cnp:
    torch.manual_seed(0)
    config = CnpConfig.model_validate({"dim": 6, "hidden": 7, **changes})
    return Cnp(Identity(IdentityConfig(dim=4)), config).eval().requires_grad_(False)


def drawn(count: int, seed: int = 1) -> Tensor:
    return torch.randn(1, count, 4, generator=torch.Generator().manual_seed(seed))


def decoded(learner: Cnp, r_c: Tensor, r: Tensor, x: Tensor) -> Tensor:
    """g([r_c ; r ; x ; |r_c − h(x)|]) with the parts of its first layer put together again."""
    inputs = (
        (learner.of_class, r_c),
        (learner.of_task, r),
        (learner.of_query, x),
        (learner.of_gap, (r_c - learner.h(x)).abs()),
    )
    read = [(layer.weight, value) for layer, value in inputs if layer is not None]
    weight = torch.cat([part for part, _ in read], 1)
    first = weight @ torch.cat([value for _, value in read]) + learner.of_query.bias
    logit: Tensor = learner.g(first)[0]
    return logit


@pytest.mark.parametrize(("context", "gap", "depth"), [(True, True, 3), (True, False, 2), (False, True, 2)])
def test_each_logit_is_the_decoder_of_a_class_and_a_query(context: bool, gap: bool, depth: int) -> None:
    learner = learner_of(context=context, gap=gap, decoder_depth=depth)
    x, query = drawn(6), drawn(3, seed=2)
    rows = torch.stack([learner.h(x[0, TARGETS[0] == label]).mean(0) for label in range(3)])
    expected = torch.tensor([[decoded(learner, row, rows.mean(0), q) for row in rows] for q in query[0]])
    weights = learner.adapt(Support.of(x, TARGETS))
    assert_close(weights.rows["representation"][0], rows)
    answer = learner.predict(weights, query)
    assert_close(answer.log_probs[0], expected.log_softmax(-1))
    assert answer.epistemic is None
    assert answer.unknown is None


def test_the_mean_is_of_representations_and_not_of_features() -> None:
    """The mean feature of a ProtoNet is not enough: h is not linear."""
    learner, x = learner_of(), drawn(6)
    row = learner.adapt(Support.of(x, TARGETS)).rows["representation"][0, 0]
    assert not row.allclose(learner.h(x[0, TARGETS[0] == 0].mean(0)), atol=1e-3)


def test_pitfall_4_another_order_of_classes_turns_the_answers() -> None:
    learner, x, query = learner_of(), drawn(6), drawn(5, seed=2)
    turned = torch.tensor([2, 0, 1])
    one = learner.predict(learner.adapt(Support.of(x, TARGETS)), query)
    other = learner.predict(learner.adapt(Support.of(x, turned[TARGETS])), query)
    assert_close(other.log_probs[..., turned], one.log_probs)


def test_pitfall_4_another_order_of_the_support_set_changes_nothing() -> None:
    learner, x, query = learner_of(), drawn(6), drawn(5, seed=2)
    order = torch.tensor([5, 2, 0, 4, 1, 3])
    one = learner.predict(learner.adapt(Support.of(x, TARGETS)), query)
    other = learner.predict(learner.adapt(Support.of(x[:, order], TARGETS[:, order])), query)
    assert_close(other.log_probs, one.log_probs)


def test_examples_and_new_classes_are_added_one_at_a_time() -> None:
    learner, x, query = learner_of(), drawn(6), drawn(5, seed=2)
    grown = learner.adapt(Support.of(x[:, :1], TARGETS[:, :1]))
    for index in range(1, 6):
        seen = int(TARGETS[0, : index + 1].max()) + 1
        n_way = torch.tensor([seen])
        one = Support.of(x[:, index : index + 1], TARGETS[:, index : index + 1], n_way)
        grown = learner.adapt(one, prior=grown)
    whole = learner.adapt(Support.of(x, TARGETS))
    assert_close(grown.rows["representation"], whole.rows["representation"])
    assert_close(grown.task["terms"], whole.task["terms"])
    assert_close(learner.predict(grown, query).log_probs, learner.predict(whole, query).log_probs)


def test_the_state_of_a_class_is_one_representation_however_many_its_examples() -> None:
    learner = learner_of()
    few = learner.adapt(Support.of(drawn(6), TARGETS))
    many = learner.adapt(Support.of(drawn(60), TARGETS.repeat(1, 10)))
    assert nbytes(few) == nbytes(many)
    assert sum(rows[0, 0].numel() for rows in few.rows.values()) == learner.config.dim + 1


def test_features_of_any_length_are_refused() -> None:
    with pytest.raises(LearnerError, match="fixed feature length"):
        Cnp(Identity(EncoderConfig()), CnpConfig())


def test_a_short_training_learns(tmp_path: Path) -> None:
    made = trained(tmp_path, "cnp", training_steps=60, hidden=32, dim=32)
    assert made.config.metrics["validation"]["accuracy_5w1s"] > 0.3
    calibration = made.learner.calibration
    assert isinstance(calibration, Calibration)
    assert bool(calibration.has_unknown)
