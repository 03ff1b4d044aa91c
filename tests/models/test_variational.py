"""Variational weights against torch.distributions, and a network of them that learns."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, MixtureSameFamily, Normal, kl_divergence
from torch.nn import functional as F
from torch.testing import assert_close

from models.bayes.variational import (
    GaussianPrior,
    MeanField,
    ScaleMixture,
    gaussian_kl,
    linear_moments,
    minibatch_weight,
    sampled_kl,
)
from models.encoders.conv4 import Conv4, Conv4Config
from models.fewshot.cnp import Cnp, CnpConfig
from models.fewshot.hypermaml import HyperMAML, HyperMAMLConfig
from models.fewshot.hypershot import HyperShot, HyperShotConfig


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=rng(seed))


def reference(prior: ScaleMixture) -> MixtureSameFamily:
    shares = torch.tensor([prior.share, 1 - prior.share])
    return MixtureSameFamily(Categorical(shares), Normal(0.0, torch.tensor([prior.wide, prior.narrow])))


MIXTURES = [
    ScaleMixture(share, math.exp(-wide), math.exp(-narrow))
    for share, wide, narrow in ((0.25, 0, 6), (0.5, 1, 7), (0.75, 2, 8))
]


@pytest.mark.parametrize("deviation", [0.1, 1.0, 3.0])
def test_pitfall_9_kl_with_the_right_variance(deviation: float) -> None:
    """Exp(log_variance) is σ², with no shift, and each weight counts for itself."""
    mean, log_variance = drawn(4, 5), drawn(4, 5, seed=1)
    expected = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, deviation))
    assert_close(gaussian_kl(mean, log_variance, GaussianPrior(deviation)), expected)


@pytest.mark.parametrize("prior", MIXTURES)
def test_pitfall_10_mixture_prior_is_of_each_weight(prior: ScaleMixture) -> None:
    w = torch.cat((drawn(50), 1e-3 * drawn(50), torch.tensor([0.0, 30.0, -1e4])))
    found = prior.log_prob(w)
    assert_close(found, reference(prior).log_prob(w))
    assert found.isfinite().all()


def test_pitfall_10_mixture_prior_over_the_whole_vector_is_another() -> None:
    prior, w = MIXTURES[0], 0.1 * drawn(8)
    wide, narrow = (Normal(0.0, s).log_prob(w).sum() for s in (prior.wide, prior.narrow))
    whole = torch.logaddexp(math.log(prior.share) + wide, math.log(1 - prior.share) + narrow)
    assert not whole.isclose(prior.log_prob(w).sum(), rtol=0.01)


def test_mixture_prior_has_a_gradient_everywhere() -> None:
    w = torch.tensor([-1e3, -1.0, -1e-4, 0.0, 1e-4, 1.0, 1e3], requires_grad=True)
    (gradient,) = torch.autograd.grad(MIXTURES[1].log_prob(w).sum(), w)
    assert gradient.isfinite().all()
    assert (gradient * w <= 0).all()


@pytest.mark.parametrize("prior", [GaussianPrior(0.7), *MIXTURES])
def test_kl_of_a_draw_is_its_log_density_under_the_prior_and_the_entropy(
    prior: GaussianPrior | ScaleMixture,
) -> None:
    w, deviation = drawn(6), drawn(6, seed=2).exp()
    under = Normal(0.0, prior.deviation) if isinstance(prior, GaussianPrior) else reference(prior)
    expected = -Normal(0.0, deviation).entropy() - under.log_prob(w)
    assert_close(sampled_kl(w, deviation, prior), expected)


def test_kl_of_draws_has_the_gradient_of_the_difference_of_log_densities() -> None:
    """The paper's log q(w) − log p(w): w moves with its mean and deviation, so q's part has no variance."""
    mean, rho = drawn(6, seed=1).requires_grad_(), drawn(6, seed=2).requires_grad_()
    deviation = F.softplus(rho)
    w = mean + deviation * drawn(6, seed=3)
    published = (Normal(mean, deviation).log_prob(w) - reference(MIXTURES[0]).log_prob(w)).sum()
    ours = sampled_kl(w, deviation, MIXTURES[0]).sum()
    gradients = [torch.autograd.grad(kl, (mean, rho), retain_graph=True) for kl in (published, ours)]
    for one, other in zip(*gradients, strict=True):
        assert_close(one, other)


def test_kl_of_draws_has_the_closed_form_as_its_mean() -> None:
    mean, deviation, prior = torch.tensor([0.3, -1.0]), torch.tensor([0.2, 0.6]), GaussianPrior()
    w = mean + deviation * drawn(100_000, 2)
    found = sampled_kl(w, deviation.expand_as(w), prior).mean(0)
    assert_close(found, gaussian_kl(mean, 2 * deviation.log(), prior), atol=0.02, rtol=0)


@pytest.mark.parametrize("batches", [1, 3, 469, 5000])
def test_schedule_of_the_divergence_within_an_epoch(batches: int) -> None:
    weights = [minibatch_weight(index, batches) for index in range(1, batches + 1)]
    assert sum(weights) == pytest.approx(1)
    assert all(one == pytest.approx(2 * other) for one, other in pairwise(weights[:20]))
    for index in (0, batches + 1):
        with pytest.raises(ValueError, match="batch"):
            minibatch_weight(index, batches)


def test_schedule_of_the_divergence_is_as_published() -> None:
    assert [minibatch_weight(index, 3) for index in (1, 2, 3)] == pytest.approx([4 / 7, 2 / 7, 1 / 7])


def test_linear_moments_are_those_of_drawn_weights() -> None:
    x, mean, deviation = drawn(2, 4), drawn(3, 4, seed=1), drawn(3, 4, seed=2).exp()
    outputs = x @ (mean + deviation * drawn(50_000, 3, 4, seed=3)).mT
    centre, spread = linear_moments(x, mean, deviation)
    assert_close(centre, outputs.mean(0), atol=0.15, rtol=0)
    assert_close(spread, outputs.std(0), atol=0, rtol=0.03)


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (nn.Linear(4, 3), (2, 4)),
        (nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)), (2, 4)),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.GroupNorm(1, 2), nn.Flatten(), nn.Linear(72, 3)), (2, 1, 8, 8)),
    ],
)
def test_any_network_may_be_variational(network: nn.Module, shape: tuple[int, ...]) -> None:
    field, x = MeanField(network, deviation=0.3), drawn(*shape)
    assert_close(field(x), network(x))
    assert all(value.allclose(torch.tensor(0.3)) for value in field.deviations.values())
    assert sum(p.numel() for p in field.parameters()) == 2 * sum(p.numel() for p in network.parameters())
    one, same, other = (field(x, field.draw(rng(seed))) for seed in (1, 1, 2))
    assert one.equal(same)
    assert not one.allclose(other)


@torch.no_grad()
def test_target_networks_of_the_few_shot_methods_may_be_variational() -> None:
    """Classifiers, decoders, relation networks, and a whole Conv-4 once BatchNorm is folded into it."""
    encoder = Conv4(Conv4Config(width=4)).eval()
    hypershot = HyperShot(encoder, HyperShotConfig(ways=3, target_hidden=8))
    relations = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 3))
    assert [tuple(w.shape) for w in relations.parameters()] == list(hypershot.hypernet.shapes.values())
    targets = {
        "hypershot": (relations, drawn(2, 3)),
        "hypermaml": (HyperMAML(encoder, HyperMAMLConfig(ways=3)).universal, drawn(2, 4)),
        "cnp": (Cnp(encoder, CnpConfig(hidden=8)).g, drawn(2, 8)),
        "maml": (encoder.fold(), drawn(2, 1, 28, 28)),
    }
    for name, (network, x) in targets.items():
        field = MeanField(network, deviation=0.1)
        assert_close(field(x), network(x), msg=name)
        one, other = (field(x, field.draw(rng(seed))) for seed in (1, 2))
        assert one.shape == network(x).shape
        assert not one.allclose(other), name
        assert field.pruned(1.0).keys() == dict(network.named_parameters()).keys()


def test_buffers_are_refused() -> None:
    with pytest.raises(ValueError, match="buffers"):
        MeanField(nn.BatchNorm1d(3))


@pytest.mark.parametrize("prior", [GaussianPrior(0.5), MIXTURES[0]])
def test_divergence_is_summed_over_all_weights(prior: GaussianPrior | ScaleMixture) -> None:
    field = MeanField(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3)), deviation=0.3)
    weights, expected = field.draw(rng()), torch.zeros(())
    for name, mean in field.means.items():
        posterior = Normal(mean, field.deviations[name])
        if isinstance(prior, GaussianPrior):
            expected = expected + kl_divergence(posterior, Normal(0.0, prior.deviation)).sum()
        else:
            expected = expected - (posterior.entropy() + reference(prior).log_prob(weights[name])).sum()
    assert_close(field.divergence(prior, weights), expected)


def two_rings(count: int = 200) -> tuple[Tensor, Tensor]:
    """Not to be told apart by a line."""
    y = torch.arange(count) % 2
    return F.normalize(drawn(count, 2), dim=1) * (0.5 + y[:, None]) + 0.1 * drawn(count, 2, seed=1), y


def test_pitfall_15_one_shot_iterator_a_variational_network_learns_in_every_part() -> None:
    torch.manual_seed(0)
    x, y = two_rings()
    network = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 2))
    kept = {name: value.clone() for name, value in network.state_dict().items()}
    field, prior, generator = MeanField(network), MIXTURES[0], rng(2)
    before = [parameter.clone() for parameter in field.parameters()]
    optimiser = torch.optim.Adam(field.parameters(), lr=0.02)
    for _ in range(300):
        weights = field.draw(generator)
        loss = field.divergence(prior, weights) / len(x) + F.cross_entropy(field(x, weights), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert all(not one.equal(p) for one, p in zip(before, field.parameters(), strict=True))
    assert all(value.equal(kept[name]) for name, value in network.state_dict().items())
    members = torch.stack([field(x, field.draw(generator)).softmax(-1) for _ in range(20)])
    assert (members.mean(0).argmax(-1) == y).float().mean() > 0.95
    assert (members.std(0) > 0).any()


def test_pruning_takes_the_weights_of_least_signal() -> None:
    field = MeanField(nn.Linear(2, 2, bias=False), deviation=1.0)
    with torch.no_grad():
        field.mean["weight"].copy_(torch.tensor([[0.1, -3.0], [2.0, -0.2]]))
        field.rho["weight"][1, 0] = 50.0
    assert_close(field.pruned(0.25)["weight"], torch.tensor([[0.1, -3.0], [0.0, -0.2]]))
    assert field.pruned(0.75)["weight"].count_nonzero() == 1
    assert field.pruned(0.0)["weight"].equal(field.means["weight"])
    assert not field.pruned(1.0)["weight"].any()
