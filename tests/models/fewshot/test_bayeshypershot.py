"""BayesHyperShot against its equations; what it shares with HyperShot is tested there."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from torch.testing import assert_close

from models.encoder_protocol import EncoderConfig
from models.encoders.identity import Identity
from models.fewshot.bayeshypershot import BayesHyperShot, BayesHyperShotConfig
from models.fewshot.hypershot import HyperShot, HyperShotConfig
from models.noise import Noise
from models.predictive import categorical_entropy
from models.protocol import Episodes, Support, TaskWeights
from tests.models.fewshot.short_training import trained

NAMES = ("weight0", "bias0", "weight1", "bias1")
SIZES = {"ways": 3, "hidden": 16, "target_hidden": 8}


def learner_of(**changes: object) -> BayesHyperShot:
    torch.manual_seed(0)
    config = BayesHyperShotConfig.model_validate({**SIZES, **changes})
    return BayesHyperShot(Identity(EncoderConfig()), config).eval().requires_grad_(False)


def support_set() -> Support:
    x = torch.randn(1, 6, 6, generator=torch.Generator().manual_seed(1))
    keys = torch.tensor([[30, -10, 20]])
    return Support.of(x, torch.arange(3).repeat(2)[None], class_key=keys, seed=torch.tensor([7]))


def queries(count: int = 3) -> Tensor:
    return torch.randn(1, count, 6, generator=torch.Generator().manual_seed(2))


def episode() -> Episodes:
    support = support_set()
    return Episodes(
        support_x=support.features,
        support_y=support.targets,
        support_mask=support.mask,
        query_x=queries(),
        query_y=torch.tensor([[0, 1, 2]]),
        query_mask=torch.ones(1, 3, dtype=torch.bool),
        n_way=torch.tensor([3]),
        unseen=torch.tensor([False]),
        seed=torch.tensor([7]),
    )


def drawn_answers(weights: TaskWeights, relations: Tensor, count: int) -> Tensor:
    """Probabilities [samples, query, way] of the one order, from weights drawn number by number."""
    generator, drawn = torch.Generator().manual_seed(4), {}
    for name in NAMES:
        mean, log_variance = weights.task[name][0, 0], weights.task[f"log_variance_{name}"][0, 0]
        drawn[name] = mean + (0.5 * log_variance).exp() * torch.randn(count, *mean.shape, generator=generator)
    x = (relations @ drawn["weight0"].mT + drawn["bias0"][:, None]).relu()
    return (x @ drawn["weight1"].mT + drawn["bias1"][:, None]).softmax(-1)


def test_kl_shift_deviations_start_near_the_published_one() -> None:
    weights = learner_of().adapt(support_set())
    for name in NAMES:
        deviation = (0.5 * weights.task[f"log_variance_{name}"]).exp()
        assert_close(deviation, torch.full_like(deviation, math.exp(-2)), atol=0.1, rtol=0)


def test_pitfall_09_kl_is_of_the_shifted_variance_and_summed_over_weights() -> None:
    learner = learner_of(orders=1, kl_weight=0.5)
    support = replace(support_set(), class_key=torch.tensor([[1, 2, 3]]))
    weights, expected = learner.adapt(support), torch.zeros(())
    for name in NAMES:
        deviation = (0.5 * weights.task[f"log_variance_{name}"]).exp()
        expected = expected + kl_divergence(Normal(weights.task[name], deviation), Normal(0.0, 1.0)).sum()
    losses, free = learner.loss(episode(), 0.3), learner_of(kl_weight=0.0).loss(episode(), 0.3)
    assert_close(losses.parts["kl"][0], expected)
    assert_close(losses.total - free.total, 0.5 * losses.parts["kl"])


def test_drawn_units_answer_as_drawn_weights_do() -> None:
    learner = learner_of(orders=1)
    weights = learner.adapt(support_set())
    wide = {
        name: value + 3 if name.startswith("log_variance") else value for name, value in weights.task.items()
    }
    weights = replace(weights, task=wide)
    support = weights.rows["support"][0]
    relations = 1 - torch.nn.functional.normalize(queries()[0], dim=-1) @ support.T
    members = drawn_answers(weights, relations, 10_000)
    answer = learner.predict(weights, queries(), Noise(10_000))
    assert_close(answer.probabilities[0], members.mean(0), atol=0.015, rtol=0)
    assert answer.expected_entropy is not None
    assert_close(answer.expected_entropy[0], categorical_entropy(members.log()).mean(0), atol=0.015, rtol=0)
    assert answer.epistemic is not None
    assert (answer.epistemic > 0.01).all()


def test_without_noise_the_answer_is_hypershots_of_the_means() -> None:
    learner = learner_of()
    weights = learner.adapt(support_set())
    answer = learner.predict(weights, queries())
    plain = HyperShot(learner.encoder, HyperShotConfig.model_validate(SIZES))
    assert_close(answer.log_probs, plain.predict(weights, queries()).log_probs)
    assert answer.epistemic is None
    certain = {
        name: value - 40 if name.startswith("log_variance") else value for name, value in weights.task.items()
    }
    sampled = learner.predict(replace(weights, task=certain), queries(), Noise(4))
    assert_close(sampled.probabilities, answer.probabilities, atol=1e-4, rtol=0)


def test_pitfall_03_weights_without_the_supports_answer_nothing() -> None:
    learner = learner_of()
    with pytest.raises(KeyError, match="support"):
        learner.predict(replace(learner.adapt(support_set()), rows={}), queries(), Noise(2))


def test_many_queries_are_answered_in_parts_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    learner, query = learner_of(), queries(50)
    weights = learner.adapt(support_set())
    whole = learner.predict(weights, query, Noise(4))
    monkeypatch.setattr("models.fewshot.bayeshypershot._MOST_HIDDEN", 3 * 4 * 8 * 7)
    parts = learner.predict(weights, query, Noise(4))
    assert_close(parts.log_probs, whole.log_probs)
    assert_close(parts.expected_entropy, whole.expected_entropy)
    assert learner.predict(weights, query[:, :0], Noise(4)).log_probs.shape == (1, 0, 3)


def test_a_short_training_ends_above_chance_and_calibrated(tmp_path: Path) -> None:
    made = trained(tmp_path, "bayeshypershot", training_steps=40, hidden=64, target_hidden=16, orders=2)
    assert made.config.metrics["validation"]["accuracy_5w1s"] > 0.4
    calibration = made.learner.calibration
    assert calibration.has_unknown
    assert calibration.has_sets
    assert calibration.epistemic.any()
