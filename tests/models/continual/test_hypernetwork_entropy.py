"""Entropies in log space: no NaN, no ties where there are none."""

import math

import torch
from torch.testing import assert_close

from models.continual.hypernetwork import entropy_posterior, log_entropy
from models.predictive import categorical_entropy


def test_it_is_the_logarithm_of_the_entropy() -> None:
    logits = 3 * torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    expected = categorical_entropy(logits.log_softmax(-1)).log()
    assert_close(log_entropy(logits, torch.ones(4, dtype=torch.bool)), expected, atol=1e-4, rtol=1e-4)


def test_classes_outside_the_mask_do_not_count() -> None:
    logits = torch.tensor([[0.0, 0.0, 50.0]])
    found = log_entropy(logits, torch.tensor([[True, True, False]]))
    assert_close(found, torch.tensor([math.log(math.log(2))]))


def test_pitfall_13_saturated_heads_are_told_apart() -> None:
    """The reference's −Σ p log p is NaN from a gap of about 100 on, and the earliest task wins."""
    gaps = torch.tensor([0.5, 2.0, 30.0, 100.0, 1_000.0, 3_000.0])
    found = log_entropy(torch.stack([gaps, torch.zeros(6)], 1), torch.ones(2, dtype=torch.bool))
    assert found.isfinite().all()
    assert (found.diff() < 0).all()
    log_probs = entropy_posterior(found, torch.full((6,), 2.0))
    assert log_probs.argmax() == 5
    assert_close(log_probs.exp().sum(), torch.tensor(1.0))


def test_the_most_uncertain_head_is_finite() -> None:
    found = log_entropy(torch.zeros(1, 3), torch.ones(3, dtype=torch.bool))
    assert_close(found.exp(), torch.tensor([math.log(3)]))
