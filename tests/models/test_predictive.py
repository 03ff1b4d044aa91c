"""Answers against numbers worked out by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor
from torch.testing import assert_close

from models.predictive import Categorical, Density, Field, Gaussian, categorical_entropy

HALF = torch.tensor([[[0.5, 0.25, 0.25], [0.7, 0.2, 0.1]]])


def categorical(probabilities: Tensor, **more: object) -> Categorical:
    return Categorical(probabilities.log(), **more)  # type: ignore[arg-type]


def members(*distributions: list[float]) -> Categorical:
    """The mean of sampled members, as a stochastic learner reports it, for one query of one task."""
    stacked = torch.tensor(distributions)[None, None]
    expected = categorical_entropy(stacked.log()).mean(-1)
    return categorical(stacked.mean(-2), expected_entropy=expected, samples=len(distributions))


def sets(answer: Categorical, coverage: float) -> list[list[int]]:
    return [row.nonzero()[:, 0].tolist() for row in answer.prediction_sets(coverage)[0]]


def test_entropy_is_in_nats() -> None:
    entropy = categorical(HALF).entropy[0]
    assert entropy[0].item() == pytest.approx(1.5 * math.log(2))
    assert entropy[1].item() == pytest.approx(
        -(0.7 * math.log(0.7) + 0.2 * math.log(0.2) + 0.1 * math.log(0.1))
    )


def test_certainty_and_padding_have_no_entropy() -> None:
    answer = Categorical(torch.tensor([[[0.0, -math.inf, -math.inf]]]))
    assert answer.entropy.item() == 0
    assert sets(answer, 1.0) == [[0]]


def test_a_deterministic_answer_has_no_epistemic_part() -> None:
    assert categorical(HALF).epistemic is None


def test_members_that_agree_have_no_epistemic_part() -> None:
    answer = members([0.9, 0.1], [0.9, 0.1])
    assert answer.epistemic is not None
    assert answer.epistemic.item() == pytest.approx(0, abs=1e-6)


def test_mutual_information_is_corrected_for_the_number_of_samples() -> None:
    # Mean (½, ½): entropy log 2; members: 0.325083 nats each, so I = 0.368064, and × 4/3 for four samples.
    own = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    answer = members([0.9, 0.1], [0.1, 0.9], [0.9, 0.1], [0.1, 0.9])
    assert answer.entropy.item() == pytest.approx(math.log(2))
    assert answer.epistemic is not None
    assert answer.epistemic.item() == pytest.approx((math.log(2) - own) * 4 / 3, abs=1e-6)


def test_the_epistemic_part_is_at_most_all() -> None:
    answer = members([1 - 1e-6, 1e-6], [1e-6, 1 - 1e-6])
    assert answer.epistemic is not None
    assert answer.epistemic.item() == pytest.approx(math.log(2), abs=1e-4)
    assert answer.epistemic.item() <= answer.entropy.item()


def test_rounding_never_makes_the_epistemic_part_negative() -> None:
    answer = categorical(HALF, expected_entropy=categorical(HALF).entropy + 1e-6, samples=8)
    assert answer.epistemic is not None
    assert (answer.epistemic == 0).all()


@pytest.mark.parametrize(
    ("coverage", "expected"),
    [
        (0.0, [[0], [0]]),
        (0.6, [[0, 1], [0]]),
        (0.7, [[0, 1], [0, 1]]),
        (0.8, [[0, 1, 2], [0, 1]]),
        (1.0, [[0, 1, 2]] * 2),
    ],
)
def test_prediction_sets_reach_the_coverage(coverage: float, expected: list[list[int]]) -> None:
    assert sets(categorical(HALF), coverage) == expected


def test_prediction_sets_stop_at_the_calibrated_level() -> None:
    answer = categorical(HALF, set_levels=torch.tensor([[0.0, 0.3, 0.6, 1.0]]))
    assert sets(answer, 0.65) == [[0, 1], [0]]
    assert sets(answer, 0.3) == [[0], [0]]


def test_prediction_sets_never_hold_less_than_the_coverage_by_their_own_probabilities() -> None:
    accurate = categorical(HALF, set_levels=torch.zeros(1, 11))
    assert sets(accurate, 0.8) == sets(categorical(HALF), 0.8)
    assert ((accurate.probabilities * accurate.prediction_sets(0.8)).sum(-1) >= 0.8 - 1e-6).all()
    cautious = categorical(HALF, set_levels=torch.ones(1, 11))
    assert sets(cautious, 0.1) == [[0, 1, 2]] * 2


def test_mass_above_is_that_of_the_better_classes() -> None:
    answer = categorical(torch.tensor([[[0.2, 0.7, 0.1]]]))
    assert_close(answer.mass_above(), torch.tensor([[[0.7, 0.0, 0.9]]]))


@given(arrays("float32", (1, 3, 5), elements=st.floats(-50, 50, width=32)), st.floats(0, 1), st.floats(0, 1))
def test_prediction_sets_hold_the_label_and_are_nested(logits: object, low: float, high: float) -> None:
    answer = Categorical(torch.as_tensor(logits).log_softmax(-1))
    small, large = (answer.prediction_sets(level) for level in sorted((low, high)))
    assert (small <= large).all()
    label = answer.log_probs.argmax(-1, keepdim=True)
    assert small.gather(-1, label).all()
    covered = (answer.probabilities * large).sum(-1)
    assert (covered >= max(low, high) - 1e-4).all()


def test_a_task_is_cut_from_its_batch() -> None:
    padded = torch.tensor([[[0.5, 0.5, 0.0]], [[0.2, 0.3, 0.5]]]).repeat(1, 2, 1)
    batch = categorical(
        padded,
        expected_entropy=torch.tensor([[0.1, 0.1], [0.2, 0.2]]),
        unknown=torch.tensor([[0.3, 0.3], [0.4, 0.4]]),
        set_levels=torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.5, 1.0]]),
        samples=4,
        fit=torch.tensor([0.25, 0.75]),
    )
    one, other = batch.at(0, 1, 2), batch.at(1, 2, 3)
    assert_close(one.probabilities, torch.tensor([[[0.5, 0.5]]]))
    assert one.expected_entropy is not None
    assert one.expected_entropy.tolist() == [[pytest.approx(0.1)]]
    assert other.unknown is not None
    assert other.unknown.shape == (1, 2)
    assert one.samples == 4
    assert one.fit is not None
    assert other.fit is not None
    assert (one.fit.tolist(), other.fit.tolist()) == ([0.25], [0.75])
    assert sets(one, 0.9) == [[0, 1]]
    assert sets(other, 0.5) == [[1, 2], [1, 2]]


def test_gaussian_variances_add() -> None:
    mean, y = torch.zeros(1, 1, 2), torch.tensor([[[1.0, 2.0]]])
    alone = Gaussian(mean, torch.full((1, 1, 2), 4.0))
    both = Gaussian(mean, torch.full((1, 1, 2), 3.0), torch.full((1, 1, 2), 1.0))
    expected = -0.5 * (0.25 + 1.0) - 2 * math.log(2 * math.sqrt(2 * math.pi))
    assert alone.log_prob(y).item() == pytest.approx(expected)
    assert both.log_prob(y).item() == pytest.approx(expected)


def test_other_answers_are_cut_alike() -> None:
    values = torch.arange(12.0).view(2, 3, 2)
    assert Field(values).at(1, 2, 0).values.equal(values[1:, :2])
    gaussian = Gaussian(values, values, values).at(1, 2, 0)
    assert gaussian.epistemic is not None
    assert gaussian.epistemic.equal(values[1:, :2])
    assert Gaussian(values, values).at(0, 1, 0).epistemic is None
    density = Density(values[..., 0], torch.zeros(2, 7, 4)).at(1, 2, 0)
    assert density.log_prob.equal(values[1:, :2, 0])
    assert density.samples is not None
    assert density.samples.shape == (1, 7, 4)
    assert Density(values[..., 0]).at(0, 1, 0).samples is None


def test_the_label_is_in_its_set_when_probabilities_tie_in_single_precision() -> None:
    """The second class is better by less than float32 shows after the exponential."""
    answer = Categorical(torch.tensor([[[-0.69314724, -0.6931472, -20.0]]]))
    assert int(answer.ranking()[0, 0, 0]) == 1
    assert sets(answer, 0.1) == [[1]]
