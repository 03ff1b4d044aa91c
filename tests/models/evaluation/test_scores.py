import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.evaluation.scores import Estimate, auroc, brier, calibration_error, spearman


def test_estimate_is_a_mean_with_its_95_percent_interval() -> None:
    found = Estimate.over(torch.tensor([0.0, 1.0, 0.0, 1.0]))
    assert found.mean == 0.5
    assert found.ci95 == pytest.approx(1.96 * math.sqrt(1 / 3) / 2)


def test_calibration_error_by_hand() -> None:
    confidence = torch.tensor([0.95, 0.95, 0.55, 0.55])
    right = torch.tensor([True, True, True, False])
    assert calibration_error(confidence, right) == pytest.approx((2 * 0.05 + 2 * 0.05) / 4)


def test_brier_by_hand() -> None:
    assert brier(torch.tensor([[0.7, 0.3]]), torch.tensor([0])) == pytest.approx(0.18)


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=40))
def test_auroc_counts_pairs_and_halves_ties(rows: list[tuple[int, bool]]) -> None:
    positive = [score for score, is_positive in rows if is_positive]
    negative = [score for score, is_positive in rows if not is_positive]
    found = auroc(
        torch.tensor([score for score, _ in rows]).float(), torch.tensor([flag for _, flag in rows])
    )
    if not positive or not negative:
        assert math.isnan(found)
        return
    wins = sum((p > n) + 0.5 * (p == n) for p in positive for n in negative)
    assert found == pytest.approx(wins / (len(positive) * len(negative)))


def test_spearman_reads_ranks_only() -> None:
    x = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert spearman(x, x.exp()) == pytest.approx(1)
    assert spearman(x, -x) == pytest.approx(-1)
