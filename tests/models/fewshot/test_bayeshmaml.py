"""BayesHMAML against its equations; what it shares with HyperMAML is tested there."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F
from torch.testing import assert_close

from models.encoders.identity import Identity, IdentityConfig
from models.fewshot.bayeshmaml import BayesHMAML, BayesHMAMLConfig
from models.fewshot.hypermaml import HyperMAML, HyperMAMLConfig
from models.noise import Noise
from models.predictive import categorical_entropy
from models.protocol import Episodes, Support, TaskWeights
from tests.models.fewshot.short_training import trained

KEYS = torch.tensor([[30, -10, 20]])
DIM = 6
TARGET = torch.tensor([0, 1, 2])


def learner_of(**changes: object) -> BayesHMAML:
    """The tails start as nearly nothing; here they say something, and variances differ."""
    torch.manual_seed(0)
    config = BayesHMAMLConfig.model_validate({"ways": 3, "hidden": 16, **changes})
    learner = BayesHMAML(Identity(IdentityConfig(dim=DIM)), config).eval()
    with torch.no_grad():
        for tail in learner.hypernet.tails.values():
            tail.weight.mul_(300)
        learner.hypernet.tails["log_variance"].bias.fill_(-1.0)
    return learner


def support_set() -> Support:
    x = torch.randn(1, 6, DIM, generator=torch.Generator().manual_seed(1))
    return Support.of(x, torch.arange(3).repeat(2)[None], class_key=KEYS, seed=torch.tensor([7]))


def queries(count: int = 3) -> Tensor:
    return torch.randn(1, count, DIM, generator=torch.Generator().manual_seed(2))


def episode() -> Episodes:
    support = support_set()
    return Episodes(
        support_x=support.features,
        support_y=support.targets,
        support_mask=support.mask,
        query_x=queries(),
        query_y=TARGET[None],
        query_mask=torch.ones(1, 3, dtype=torch.bool),
        n_way=torch.tensor([3]),
        unseen=torch.tensor([False]),
        seed=torch.tensor([7]),
    )


def posterior(learner: BayesHMAML) -> tuple[Tensor, Tensor]:
    """μ and s of the episode's own order, [way, d + 1]."""
    rows = learner.adapt(replace(support_set(), class_key=torch.tensor([[1, 2, 3]]))).rows
    return rows["row"][0, :, 0], rows["log_variance"][0, :, 0]


def with_one(x: Tensor) -> Tensor:
    return torch.cat((x, torch.ones(*x.shape[:-1], 1)), dim=-1)


@pytest.mark.parametrize(
    ("progress", "kappa"), [(0.0, 1e-24), (1 / 3, 1e-17), (2 / 3, 1e-10), (0.85, 7.08e-7), (1.0, 1e-3)]
)
def test_pitfall_08_schedule_of_the_divergence_is_geometric(progress: float, kappa: float) -> None:
    """From 1e-24 to κ_T = 1e-3; below 1e-6 for the first 85 % of a training."""
    assert learner_of().kl_weight(progress) == pytest.approx(kappa, rel=0.02, abs=0)


def test_schedule_is_the_published_recursion() -> None:
    learner, epochs, kappa = learner_of(kl_start=1e-24, kl_stop=1e-4), 64, 1e-24
    for epoch in range(epochs + 1):
        assert learner.kl_weight(epoch / epochs) == pytest.approx(kappa, rel=1e-9, abs=0)
        kappa *= (1e-4 / 1e-24) ** (1 / epochs)


@torch.no_grad()
def test_pitfall_09_kl_is_that_of_the_posterior_summed_over_weights() -> None:
    learner = learner_of(warm_up=0, switch=0)
    mean, log_variance = posterior(learner)
    expected = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0)).sum()
    assert_close(learner.loss(episode(), 1.0).parts["kl"][0], expected)


@torch.no_grad()
def test_kl_starts_from_a_variance_of_one_without_a_shift() -> None:
    torch.manual_seed(0)
    learner = BayesHMAML(Identity(IdentityConfig(dim=DIM)), BayesHMAMLConfig(ways=3, hidden=16))
    assert_close(posterior(learner)[1], torch.zeros(3, DIM + 1), atol=0.05, rtol=0)


@torch.no_grad()
def test_loss_is_of_averaged_logits_and_the_weighted_divergence() -> None:
    learner = learner_of(warm_up=0, switch=0, kl_stop=0.01)
    mean, log_variance = posterior(learner)
    x = with_one(queries()[0])
    deviation = (x.square() @ log_variance.exp().T).sqrt()
    draws = Noise(5).normal(torch.tensor([7]), torch.arange(1, 10)[None]).view(3, 3, 5)
    sampled = (x @ mean.T)[..., None] + deviation[..., None] * draws
    losses = learner.loss(episode(), 1.0)
    assert_close(losses.parts["nll"][0], F.cross_entropy(sampled.mean(-1), TARGET))
    assert_close(losses.total, losses.parts["nll"] + 0.01 * losses.parts["kl"])


def test_warm_up_concerns_the_mean_and_its_inner_loss_holds_the_divergence() -> None:
    learner = learner_of(inner_steps=2, kl_start=0.3, kl_stop=0.3)
    _, log_variance = posterior(learner)
    weight = torch.cat((learner.universal.weight, learner.universal.bias[:, None]), dim=1)
    support = support_set()
    assert support.targets is not None
    for _ in range(2):
        inner = F.cross_entropy(with_one(support.features[0]) @ weight.T, support.targets[0])
        inner = inner + 0.3 * kl_divergence(Normal(weight, 1.0), Normal(0.0, 1.0)).sum()
        (gradient,) = torch.autograd.grad(inner, weight, create_graph=True)
        weight = weight - learner.config.inner_lr * gradient
    expected = kl_divergence(Normal(weight, (0.5 * log_variance).exp()), Normal(0.0, 1.0)).sum()
    losses = learner.loss(episode(), 0.0)
    assert_close(losses.parts["kl"][0], expected)
    losses.total.sum().backward()
    assert learner.hypernet.tails["log_variance"].weight.grad.any()
    assert not learner.hypernet.tails["delta"].weight.grad.any()


def members_of(learner: BayesHMAML, weights: TaskWeights, noise: Noise) -> Tensor:
    """Probabilities [query, way, samples] by loops: a draw per class and sample, the same in every order."""
    draws = noise.normal(weights.seed, weights.class_key)[0]
    x, found = with_one(queries()[0]), torch.zeros(3, 3, noise.samples)
    for order in range(3):
        mean, variance = (weights.rows[name][0, :, order] for name in ("row", "log_variance"))
        for sample in range(noise.samples):
            logits = x @ mean.T + (x.square() @ variance.exp().T).sqrt() * draws[:, sample]
            found[..., sample] += logits.softmax(-1) / 3
    return found


@torch.no_grad()
def test_probabilities_are_averaged_and_the_epistemic_part_is_mutual_information() -> None:
    learner, noise = learner_of(), Noise(6)
    weights = learner.adapt(support_set())
    answer, members = learner.predict(weights, queries(), noise), members_of(learner, weights, noise)
    assert_close(answer.probabilities[0], members.mean(-1))
    expected = categorical_entropy(members.transpose(-1, -2).log()).mean(-1)
    assert answer.expected_entropy is not None
    assert_close(answer.expected_entropy[0], expected)
    assert answer.epistemic is not None
    information = (categorical_entropy(members.mean(-1).log()) - expected) * 6 / 5
    assert_close(answer.epistemic[0], information.minimum(answer.entropy[0]))


@torch.no_grad()
def test_drawn_logits_are_distributed_as_those_of_drawn_weights() -> None:
    learner = learner_of(orders=1)
    weights = learner.adapt(support_set())
    mean, log_variance = (weights.rows[name][0, :, 0] for name in ("row", "log_variance"))
    noise = torch.randn(20_000, *mean.shape, generator=torch.Generator().manual_seed(4))
    drawn = with_one(queries()[0]) @ (mean + (0.5 * log_variance).exp() * noise).mT
    members = drawn.softmax(-1)
    answer = learner.predict(weights, queries(), Noise(20_000))
    assert_close(answer.probabilities[0], members.mean(0), atol=0.01, rtol=0)
    assert answer.expected_entropy is not None
    assert_close(answer.expected_entropy[0], categorical_entropy(members.log()).mean(0), atol=0.01, rtol=0)


@torch.no_grad()
def test_without_noise_the_answer_is_that_of_the_mean_alone() -> None:
    learner = learner_of()
    weights = learner.adapt(support_set())
    plain = HyperMAML(learner.encoder, HyperMAMLConfig(ways=3, hidden=16))
    answer = learner.predict(weights, queries())
    assert_close(answer.log_probs, plain.predict(weights, queries()).log_probs)
    assert answer.epistemic is None
    certain = {**weights.rows, "log_variance": torch.full_like(weights.rows["log_variance"], -30)}
    sampled = learner.predict(replace(weights, rows=certain), queries(), Noise(4))
    assert_close(sampled.probabilities, answer.probabilities, atol=1e-4, rtol=0)


@torch.no_grad()
def test_pitfall_25_nan_never_leaves_however_far_the_inputs() -> None:
    learner, support = learner_of(), support_set()
    for scale in (0.0, 1e4, 1e8):
        weights = learner.adapt(replace(support, features=scale * support.features))
        answer = learner.predict(weights, scale * queries(), Noise(4))
        assert answer.probabilities.isfinite().all()
        assert answer.epistemic is not None
        assert answer.epistemic.isfinite().all()


@torch.no_grad()
def test_the_state_of_a_task_is_twice_that_of_hypermaml() -> None:
    learner = BayesHMAML(Identity(IdentityConfig(dim=64)), BayesHMAMLConfig(hidden=4))
    weights = learner.adapt(Support.of(torch.randn(1, 5, 64), torch.arange(5)[None]))
    assert sum(rows[:, :, 0].numel() for rows in weights.rows.values()) == 2 * 325


@torch.no_grad()
def test_many_queries_are_answered_in_parts_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    learner, query = learner_of(), queries(50)
    weights = learner.adapt(support_set())
    whole = learner.predict(weights, query, Noise(4))
    monkeypatch.setattr("models.fewshot.bayeshmaml.MOST_SAMPLED", 36 * 7)
    parts = learner.predict(weights, query, Noise(4))
    assert_close(parts.log_probs, whole.log_probs)
    assert_close(parts.expected_entropy, whole.expected_entropy)
    assert learner.predict(weights, query[:, :0], Noise(4)).log_probs.shape == (1, 0, 3)


def test_a_short_training_ends_above_chance_and_calibrated(tmp_path: Path) -> None:
    made = trained(tmp_path, "bayeshmaml", training_steps=80, hidden=64)
    assert made.config.metrics["validation"]["accuracy_5w1s"] > 0.3
    calibration = made.learner.calibration
    assert calibration.has_unknown
    assert calibration.has_sets
    assert calibration.epistemic.any()
    assert math.isfinite(made.config.metrics["validation"]["nll_5w1s"])
