"""The Bayesian last layer against linear regression worked out in float64, and what its variance does."""

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal
from torch.testing import assert_close

from models.encoders.identity import Identity, IdentityConfig
from models.fewshot.bayes_linear import BayesLinear, BayesLinearConfig
from models.fewshot.common.cholesky import safe_cholesky
from models.protocol import Episodes, LearnerError, Support


def learner(**changes: object) -> BayesLinear:
    torch.manual_seed(0)
    config = BayesLinearConfig.model_validate({"width": 16, "features": 6, **changes})
    made = BayesLinear(Identity(IdentityConfig()), config).eval()
    with torch.no_grad():
        made.prior_mean.normal_()
        made.prior_factor.normal_(std=0.3)
    return made.requires_grad_(False)


def drawn(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_posterior_is_that_of_bayesian_linear_regression() -> None:
    """Per target: weights ~ N(K₀, σ² Λ₀⁻¹); condition the joint Gaussian of examples and queries directly."""
    bayes = learner(target=2)
    x, y, query = drawn(1, 7, 1), drawn(1, 7, 2, seed=2), drawn(1, 4, 1, seed=3)
    answer = bayes.predict(bayes.adapt(Support.of(x, y)), query)
    phi, asked = bayes.phi(x[0]).double(), bayes.phi(query[0]).double()
    prior = torch.linalg.inv(bayes.prior_precision)
    for target in range(2):
        noise = bayes.noise_variance[target].double()
        mean = bayes.prior_mean[:, target].double()
        own = noise * (phi @ prior @ phi.T + torch.eye(7, dtype=torch.double))
        cross = noise * asked @ prior @ phi.T
        gain = cross @ torch.linalg.inv(own)
        expected = asked @ mean + gain @ (y[0, :, target].double() - phi @ mean)
        variance = (noise * asked @ prior @ asked.T - gain @ cross.T).diagonal()
        assert_close(answer.mean[0, :, target], expected.float())
        assert answer.epistemic is not None
        assert_close(answer.epistemic[0, :, target], variance.float())
        assert_close(answer.aleatoric[0, :, target], noise.float().expand(4))


def test_the_likelihood_of_a_sequence_is_that_of_the_joint_gaussian() -> None:
    """Answers one after the other, each learned before the next, multiply to the marginal likelihood."""
    bayes, x, y = learner(), drawn(1, 5, 1), drawn(1, 5, 1, seed=2)
    weights = bayes.adapt(Support.of(x[:, :0], y[:, :0]))
    total = torch.zeros(())
    for index in range(5):
        one = slice(index, index + 1)
        total = total + bayes.predict(weights, x[:, one]).log_prob(y[:, one])[0, 0]
        weights = bayes.adapt(Support.of(x[:, one], y[:, one]), prior=weights)
    phi, noise = bayes.phi(x[0]).double(), bayes.noise_variance.double()
    covariance = noise * (phi @ torch.linalg.inv(bayes.prior_precision) @ phi.T + torch.eye(5).double())
    joint = MultivariateNormal((phi @ bayes.prior_mean.double())[:, 0], covariance)
    assert_close(total, joint.log_prob(y[0, :, 0].double()).float(), atol=1e-4, rtol=1e-4)


def test_epistemic_variance_falls_with_every_example_and_noise_does_not() -> None:
    bayes, query = learner(), torch.linspace(-3, 3, 21)[None, :, None]
    x, y = drawn(1, 30, 1), drawn(1, 30, 1, seed=2)
    before = bayes.predict(bayes.adapt(Support.of(x[:, :0], y[:, :0])), query)
    for shots in (1, 2, 5, 10, 30):
        answer = bayes.predict(bayes.adapt(Support.of(x[:, :shots], y[:, :shots])), query)
        assert answer.epistemic is not None
        assert before.epistemic is not None
        assert (answer.epistemic < before.epistemic).all()
        assert_close(answer.aleatoric, before.aleatoric)
        before = answer


def test_epistemic_variance_is_larger_away_from_the_examples() -> None:
    bayes = learner(features=32)
    answer = bayes.predict(
        bayes.adapt(Support.of(0.1 * drawn(1, 20, 1), drawn(1, 20, 1, seed=2))),
        torch.tensor([[[0.0], [3.0], [-3.0]]]),
    )
    assert answer.epistemic is not None
    near, right, left = answer.epistemic[0, :, 0]
    assert right > 3 * near
    assert left > 3 * near


def test_the_loss_is_the_mean_over_real_queries() -> None:
    bayes, x, y = learner(), drawn(1, 4, 1), drawn(1, 4, 1, seed=2)
    query, target = drawn(1, 3, 1, seed=3), drawn(1, 3, 1, seed=4)
    asked, zero = torch.tensor([[True, True, False]]), torch.zeros(1, dtype=torch.long)
    drawn_tasks = Episodes(x, y, torch.ones(1, 4, dtype=torch.bool), query, target, asked, zero, zero.bool())
    answer = bayes.predict(bayes.adapt(Support.of(x, y)), query[:, :2])
    assert answer.epistemic is not None
    deviation = (answer.aleatoric + answer.epistemic).sqrt()
    expected = -torch.distributions.Normal(answer.mean, deviation).log_prob(target[:, :2]).mean()
    assert_close(bayes.loss(drawn_tasks, 0.0).total[0], expected)


def test_the_noise_has_a_floor() -> None:
    bayes = learner(noise_floor=0.25)
    bayes.log_noise.fill_(-100)
    assert_close(bayes.noise_variance, torch.tensor([0.25]))


def test_pitfall_23_a_matrix_that_is_not_positive_definite_gets_jitter_until_it_is() -> None:
    vector = drawn(1, 5).double()
    singular = vector.T @ vector - 1e-9 * torch.eye(5, dtype=torch.double)
    sound = torch.eye(5, dtype=torch.double)
    factors = safe_cholesky(torch.stack((singular, sound)))
    assert factors.isfinite().all()
    assert_close(factors[0] @ factors[0].T, singular, atol=1e-6, rtol=0)
    assert_close(factors[1], sound, atol=0, rtol=0)
    with pytest.raises(LearnerError, match="Cholesky"):
        safe_cholesky(-sound[None])


def test_pitfall_23_the_same_example_a_thousand_times_and_far_inputs_are_no_nan() -> None:
    bayes = learner(noise_floor=1e-6)
    bayes.log_noise.fill_(-100)
    bayes.prior_factor.diagonal().fill_(-12.0)
    x = bayes.embed(torch.tensor([[3e38]])).expand(1000, 1)[None]
    answer = bayes.predict(bayes.adapt(Support.of(x, torch.ones(1, 1000, 1))), drawn(1, 9, 1))
    assert answer.epistemic is not None
    assert answer.mean.isfinite().all()
    assert (answer.epistemic >= 0).all()
    assert answer.epistemic.isfinite().all()


def test_values_that_are_not_finite_are_refused() -> None:
    with pytest.raises(LearnerError, match="not finite"):
        learner().adapt(Support.of(drawn(1, 3, 1), torch.full((1, 3, 1), torch.nan)))
