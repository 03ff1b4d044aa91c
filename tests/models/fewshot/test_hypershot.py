"""HyperShot against its equations, written out one task, one order and one number at a time."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from models.encoder_protocol import EncoderConfig
from models.encoders.identity import Identity
from models.fewshot import hypershot
from models.fewshot.hypershot import HyperShot, HyperShotConfig
from models.predictive import Categorical
from models.protocol import FOREIGN, Episodes, Span, Support, UnsupportedSupportError

KEYS = torch.tensor([[30, -10, 20]])
"""In rising order: class 1, class 2, class 0."""


def learner_of(**changes: object) -> HyperShot:
    torch.manual_seed(0)
    config = HyperShotConfig.model_validate({"ways": 3, "hidden": 16, "target_hidden": 8, **changes})
    return HyperShot(Identity(EncoderConfig()), config).eval().requires_grad_(False)


def support_set(shots: int = 2) -> Support:
    rng = torch.Generator().manual_seed(1)
    targets = torch.arange(3).repeat(shots)[None]
    return Support.of(torch.randn(1, 3 * shots, 6, generator=rng), targets, class_key=KEYS)


def queries(count: int = 4) -> Tensor:
    return torch.randn(1, count, 6, generator=torch.Generator().manual_seed(2))


def answer(learner: HyperShot, support: Support, query: Tensor) -> Categorical:
    return learner.predict(learner.adapt(support), query)


def relation(a: Tensor, b: Tensor) -> float:
    return 1 - float(a @ b / (a.norm() * b.norm()))


@pytest.mark.parametrize(("neck", "head", "depth"), [(1, 2, 2), (0, 1, 1), (2, 3, 3)])
def test_answers_are_the_mean_over_the_turns_of_the_canonical_order(neck: int, head: int, depth: int) -> None:
    learner, support = learner_of(neck=neck, head=head, target_depth=depth), support_set()
    query = queries(1)
    means = [support.features[0, support.targets[0] == c].mean(0) for c in range(3)]
    expected = torch.zeros(3)
    for order in ([1, 2, 0], [2, 0, 1], [0, 1, 2]):
        kernel = [relation(means[i], means[j]) for i in order for j in order]
        tensors = learner.hypernet(torch.tensor(kernel))
        x = torch.tensor([relation(query[0, 0], means[c]) for c in order])
        for layer in range(depth):
            x = tensors[f"weight{layer}"] @ (x.relu() if layer else x) + tensors[f"bias{layer}"]
        for place, row in enumerate(order):
            expected[row] += x.softmax(0)[place] / 3
    assert_close(answer(learner, support, query).probabilities[0, 0], expected, atol=1e-5, rtol=1e-4)


def test_shots_are_free_since_supports_are_averaged() -> None:
    learner, once = learner_of(), support_set(1)
    thrice = Support.of(once.features.repeat(1, 3, 1), once.targets.repeat(1, 3), class_key=KEYS)
    one, other = learner.adapt(once), learner.adapt(thrice)
    assert_close(one.task["weight0"], other.task["weight0"])
    assert_close(one.rows["support"], other.rows["support"])


@pytest.mark.parametrize("way", [2, 4])
def test_pitfall_05_another_way_is_refused(way: int) -> None:
    learner, targets = learner_of(), torch.arange(way)[None]
    assert learner.traits.ways == Span(3, 3)
    with pytest.raises(UnsupportedSupportError, match="3 classes"):
        learner.adapt(Support.of(torch.randn(1, way, 6), targets))


def test_pitfall_03_weights_without_the_supports_answer_nothing() -> None:
    learner = learner_of()
    with pytest.raises(KeyError, match="support"):
        learner.predict(replace(learner.adapt(support_set()), rows={}), queries())


def test_the_state_of_a_task_is_small() -> None:
    """1,413 numbers per order and a feature per class, as published for characters."""
    learner = HyperShot(Identity(EncoderConfig()), HyperShotConfig(hidden=4))
    weights = learner.adapt(Support.of(torch.randn(1, 5, 64), torch.arange(5)[None]))
    tensors = [value for name, value in weights.task.items() if name != "terms"]
    assert sum(value[0, 0].numel() for value in tensors) == 5 * 128 + 128 + 128 * 5 + 5
    assert all(value.shape[1] == 5 for value in tensors)
    assert weights.rows["support"].shape == (1, 5, 64)


def test_orders_are_turns() -> None:
    with pytest.raises(ValidationError, match="3 turns"):
        learner_of(orders=4)


def by_distance(sharpness: float, **changes: object) -> HyperShot:
    """A hypernetwork that always writes one linear layer: logits = −sharpness × distance."""
    learner = learner_of(ways=2, target_depth=1, **changes)
    for name, value in (("weight0", -sharpness * torch.eye(2)), ("bias0", torch.zeros(2))):
        last = learner.hypernet.heads[name][-1]
        last.weight.zero_()
        last.bias.copy_(value.flatten())
    return learner


# Unit vectors at right angles; queries at 1 to 0 and 0.8 to 0.6: distances (0, 1) and (0.4, 0.2).
EPISODES = Episodes(
    support_x=torch.tensor([[[2.0, 0.0], [0.0, 5.0]]]),
    support_y=torch.tensor([[0, 1]]),
    support_mask=torch.ones(1, 2, dtype=torch.bool),
    query_x=torch.tensor([[[7.0, 0.0], [0.6, 0.8], [9.0, 9.0], [9.0, 1.0]]]),
    query_y=torch.tensor([[0, 0, FOREIGN, 0]]),
    query_mask=torch.tensor([[True, True, True, False]]),
    n_way=torch.tensor([2]),
    unseen=torch.tensor([False]),
)


def test_pitfall_06_the_loss_is_the_mean_over_averaged_supports_and_known_queries() -> None:
    right = math.log(1 + math.exp(-3.0))
    between = math.log(1 + math.exp(3 * 0.2))
    losses = by_distance(3.0).loss(EPISODES, 0.0)
    assert_close(losses.parts["nll"], torch.tensor([(right + between) / 2]))
    assert_close(losses.total, torch.tensor([(2 * right + right + between) / 4]))
    alone = by_distance(3.0, train_on_support=False).loss(EPISODES, 0.0)
    assert_close(alone.total, losses.parts["nll"])


def test_the_loss_reads_the_order_of_the_episode_only() -> None:
    learner = learner_of(ways=2)
    calls: list[tuple[int, ...]] = []
    learner.hypernet.register_forward_hook(lambda _, entered, __: calls.append(entered[0].shape))
    learner.loss(EPISODES, 0.0)
    assert calls == [(1, 1, 4)]


def test_nothing_is_made_up() -> None:
    """No epistemic part, and no `unknown` before it is calibrated; its score is the nearest distance."""
    learner = by_distance(3.0)
    support = Support.of(EPISODES.support_x, EPISODES.support_y)
    one = answer(learner, support, EPISODES.query_x)
    assert one.epistemic is None
    assert one.unknown is None
    assert one.novelty is not None
    assert_close(one.novelty[0, :2], torch.tensor([0.0, 0.2]))


def test_many_queries_are_answered_in_parts_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    learner, support, query = learner_of(), support_set(), queries(50)
    whole = answer(learner, support, query)
    monkeypatch.setattr(hypershot, "_MOST_HIDDEN", 3 * 8 * 7)
    assert_close(answer(learner, support, query).log_probs, whole.log_probs)
    assert answer(learner, support, query[:, :0]).log_probs.shape == (1, 0, 3)


def test_layers_of_the_hypernetwork_are_counted_as_published() -> None:
    """Neck 1: one linear layer without ReLU. Head 2: linear, ReLU, linear to the whole tensor."""
    learner = HyperShot(Identity(EncoderConfig()), HyperShotConfig())
    assert [type(layer).__name__ for layer in learner.hypernet.neck] == ["Linear"]
    for name, numel in {"weight0": 640, "bias0": 128, "weight1": 640, "bias1": 5}.items():
        head = learner.hypernet.heads[name]
        assert [type(layer).__name__ for layer in head] == ["Linear", "ReLU", "Linear"]
        assert [getattr(layer, "out_features", None) for layer in head] == [512, None, numel]


@pytest.mark.parametrize("neck", [2, 3])
def test_a_longer_neck_ends_without_relu(neck: int) -> None:
    layers = [type(layer).__name__ for layer in learner_of(neck=neck).hypernet.neck]
    assert layers == ["Linear", *["ReLU", "Linear"] * (neck - 1)]
    assert all(one != other for one, other in pairwise(layers))


def test_unit_vectors_are_what_is_kept() -> None:
    kept = learner_of().adapt(support_set()).rows["support"]
    assert_close(kept, F.normalize(kept, dim=-1))


@pytest.mark.parametrize("tasks", [2, 7, 33])
def test_weights_do_not_depend_on_the_batch_even_by_rounding(tasks: int) -> None:
    """Logits are in the tens, so that the rounding of weights would show in the fifth digit of an answer."""
    learner = learner_of(hidden=256, target_hidden=64)
    rng = torch.Generator().manual_seed(3)
    features = torch.randn(tasks, 6, 6, generator=rng)
    targets = torch.arange(3).repeat(2).expand(tasks, -1)
    keys = torch.randint(1 << 62, (tasks, 3), generator=rng)
    batch = learner.adapt(Support.of(features, targets, class_key=keys))
    for task in range(tasks):
        one = slice(task, task + 1)
        alone = learner.adapt(Support.of(features[one], targets[one], class_key=keys[one]))
        for name, value in alone.task.items():
            assert torch.equal(value, batch.select(task).task[name]), name
