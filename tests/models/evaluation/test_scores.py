import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.evaluation.scores import MeanEstimate, auroc, brier, calibration_error, spearman


def test_estimate_is_a_mean_with_its_95_percent_interval() -> None:
    found = MeanEstimate.over(torch.tensor([0.0, 1.0, 0.0, 1.0]))
    assert found.mean == 0.5
    assert found.ci95 == pytest.approx(1.96 * math.sqrt(1 / 3) / 2)


def test_calibration_error_by_hand() -> None:
    confidence = torch.tensor([0.95, 0.95, 0.55, 0.55])
    right = torch.tensor([True, True, True, False])
    assert calibration_error(confidence, right) == pytest.approx((2 * 0.05 + 2 * 0.05) / 4)


def test_brier_by_hand() -> None:
    assert brier(torch.tensor([[0.7, 0.3]]), torch.tensor([0])) == pytest.approx(0.18)


@settings(deadline=None)  # scipy is imported by the first example
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


def test_auroc_of_many_queries_agrees_with_the_rank_sum() -> None:
    """Scores with and without ties, against the formula of Mann and Whitney in plain torch."""
    rng = torch.Generator().manual_seed(0)
    positive = torch.rand(5000, generator=rng) < 0.3
    for score in (
        torch.rand(5000, generator=rng) + 0.2 * positive,
        torch.randint(20, (5000,), generator=rng) + positive,
    ):
        _, inverse, counts = score.double().unique(return_inverse=True, return_counts=True)
        rank = (counts.cumsum(0).double() - (counts.double() - 1) / 2)[inverse]
        n_positive, n_negative = int(positive.sum()), int((~positive).sum())
        above = rank[positive].sum() - n_positive * (n_positive + 1) / 2
        expected = float(above / (n_positive * n_negative))
        assert auroc(score.float(), positive) == pytest.approx(expected, rel=1e-12)


def test_spearman_reads_ranks_only() -> None:
    x = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert spearman(x, x.exp()) == pytest.approx(1)
    assert spearman(x, -x) == pytest.approx(-1)


def test_spearman_gives_ties_their_mean_rank() -> None:
    """Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: covariance 4.5 / √(4.5 · 5)."""
    tied = spearman(torch.tensor([1.0, 2.0, 2.0, 3.0]), torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert tied == pytest.approx(4.5 / math.sqrt(4.5 * 5))
    assert math.isnan(spearman(torch.ones(3), torch.arange(3.0)))


def test_spearman_without_ties_agrees_with_the_correlation_of_ranks() -> None:
    rng = torch.Generator().manual_seed(0)
    a, b = torch.rand(500, generator=rng), torch.rand(500, generator=rng)
    ranks = torch.stack([x.argsort().argsort().double() for x in (a, b)])
    assert spearman(a, b) == pytest.approx(float(torch.corrcoef(ranks)[0, 1]), rel=1e-12)
