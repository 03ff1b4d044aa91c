import math

import torch

from models.bayes.sampling import expectations, mean_log_probs, sampled_log_probs
from models.encoders.identity import Identity
from models.fewshot import hyperset
from models.fewshot.hyperset import HyperSet, HyperSetConfig
from models.noise import Noise
from models.predictive import Categorical
from models.protocol import Support

PRESENT = torch.tensor([[True, True, False]])


def test_no_deviation_is_the_plain_softmax() -> None:
    logits = torch.tensor([[[0.0, 1.0, -torch.inf]]])
    log_probs, entropy = expectations(logits, torch.zeros_like(logits), torch.randn(1, 3, 8), PRESENT)
    p = 1 / (1 + math.e)
    assert torch.allclose(log_probs.exp(), torch.tensor([[[p, 1 - p, 0.0]]]), atol=1e-6)
    assert torch.allclose(entropy, torch.tensor(-(p * math.log(p) + (1 - p) * math.log(1 - p))), atol=1e-6)


def test_the_mean_is_over_members_and_its_gradient_is_finite_beside_padding() -> None:
    logits = torch.tensor([[[0.0, 1.0, 0.5]]], requires_grad=True)
    masked = logits.masked_fill(~PRESENT[:, None], -torch.inf)
    members = sampled_log_probs(masked, torch.ones_like(logits), torch.randn(1, 3, 8))
    log_probs = mean_log_probs(members, PRESENT)
    assert torch.allclose(log_probs.exp(), members.exp().mean(-1), atol=1e-6)
    log_probs[..., :2].sum().backward()
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())


def test_a_large_request_in_parts_answers_the_same() -> None:
    torch.manual_seed(0)
    encoder = Identity(Identity.Config())
    encoder.dim = 4
    learner = HyperSet(encoder, HyperSetConfig(width=16)).eval().requires_grad_(False)
    weights = learner.adapt(Support.of(torch.randn(1, 6, 4), torch.tensor([[0, 1, 2, 0, 1, 2]])))
    queries = torch.randn(1, 40, 4)
    whole = learner.predict(weights, queries, Noise(16))
    hyperset.MOST_SAMPLED, kept = 3 * 16 * 7, hyperset.MOST_SAMPLED
    try:
        parts = learner.predict(weights, queries, Noise(16))
    finally:
        hyperset.MOST_SAMPLED = kept
    assert isinstance(whole, Categorical)
    assert isinstance(parts, Categorical)
    assert torch.allclose(whole.log_probs, parts.log_probs, atol=1e-6)
    assert whole.expected_entropy is not None
    assert parts.expected_entropy is not None
    assert torch.allclose(whole.expected_entropy, parts.expected_entropy, atol=1e-6)
