"""Bayes by Backprop's own learner on two rings, and its outputs against those of drawn weights."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from experiments.bayes_by_backprop_training import (
    VariationalConfig,
    averaged_probabilities,
    mlp,
    sampled_outputs,
    train_variational,
)
from models.bayes.variational import MeanField
from models.training.trainer import TrainingDivergedError

SMALL = {"units": 16, "epochs": 40, "batch": 50, "lr": 0.03, "layers": 1}


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def two_rings(count: int = 200, seed: int = 0) -> tuple[Tensor, Tensor]:
    y = torch.arange(count) % 2
    generator = rng(seed)
    around = F.normalize(torch.randn(count, 2, generator=generator), dim=1)
    return around * (0.5 + y[:, None]) + 0.1 * torch.randn(count, 2, generator=generator), y


def small_field(deviation: float = 0.2) -> MeanField:
    torch.manual_seed(0)
    return MeanField(mlp(2, 3, 8, 2), deviation).requires_grad_(False)


def trained(**changes: object) -> tuple[MeanField, list[dict[str, float]]]:
    rows: list[dict[str, float]] = []
    config = VariationalConfig.model_validate(SMALL | changes)
    return train_variational(*two_rings(), 2, config, rows.append), rows


@pytest.mark.parametrize("changes", [{}, {"local": False}, {"layers": 2}])
def test_it_learns_what_no_line_tells_apart(changes: dict[str, object]) -> None:
    field, rows = trained(**changes)
    x, y = two_rings(seed=1)
    probabilities, _ = averaged_probabilities(field, x, 10, rng())
    assert (probabilities.argmax(-1) == y).float().mean() > 0.93
    assert len(rows) == SMALL["epochs"]
    assert rows[-1]["nll"] < rows[0]["nll"]
    assert rows[-1]["kl_per_example"] < rows[0]["kl_per_example"]


def test_the_published_weights_of_minibatches_learn_too() -> None:
    field, _ = trained(schedule="geometric")
    x, y = two_rings(seed=1)
    assert (field(x).argmax(-1) == y).float().mean() > 0.85


def test_a_seed_is_a_run() -> None:
    (one, first), (other, second), (_, third) = (
        trained(epochs=2),
        trained(epochs=2),
        trained(epochs=2, seed=1),
    )
    assert first == second
    assert first != third
    assert all(value.equal(other.means[name]) for name, value in one.means.items())


def test_drawn_outputs_of_one_layer_have_the_moments_of_drawn_weights() -> None:
    """One layer is where both are the same distribution for each example, bias included."""
    torch.manual_seed(0)
    field, x = MeanField(mlp(2, 3, 8, 0), 0.5).requires_grad_(False), two_rings(4)[0]
    locally = torch.stack([sampled_outputs(field, x, rng(seed)) for seed in range(1500)])
    by_weights = torch.stack([field(x, field.draw(rng(seed))) for seed in range(1500)])
    assert_close(locally.mean(0), by_weights.mean(0), atol=0.08, rtol=0)
    assert_close(locally.std(0), by_weights.std(0), atol=0, rtol=0.1)


def test_drawn_outputs_of_all_layers_are_the_network_where_weights_are_certain() -> None:
    field, x = small_field(1e-6), two_rings(6)[0]
    assert_close(sampled_outputs(field, x, rng()), field(x), atol=1e-4, rtol=1e-4)


def test_predictive_probabilities_are_averaged_not_logits() -> None:
    field, x = small_field(1.0), two_rings(6)[0]
    generator = rng(3)
    members = torch.stack([field(x, field.draw(generator)) for _ in range(5)])
    found, expected_entropy = averaged_probabilities(field, x, 5, rng(3))
    assert_close(found, members.softmax(-1).mean(0))
    assert not found.allclose(members.mean(0).softmax(-1), atol=1e-2)
    entropies = torch.distributions.Categorical(logits=members).entropy()
    assert_close(expected_entropy, entropies.mean(0))


def test_the_divergence_is_shared_out_over_the_minibatches() -> None:
    """However many batches, an epoch counts the KL once: with one batch of everything, both schedules agree."""
    one, other = (trained(epochs=1, batch=200, schedule=kind)[1] for kind in ("even", "geometric"))
    assert one == other


def test_a_training_that_blows_up_says_so() -> None:
    x, y = two_rings()
    config = VariationalConfig.model_validate(SMALL)
    with pytest.raises(TrainingDivergedError):
        train_variational(x * math.nan, y, 2, config, lambda row: None)
