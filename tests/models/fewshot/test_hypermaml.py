"""HyperMAML against its equations; gradients against autograd's own, unrolled by hand."""

import math
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from models.encoder_protocol import EncoderConfig
from models.encoders.identity import Identity, IdentityConfig
from models.fewshot.hypermaml import HyperMAML, HyperMAMLConfig, descend, gradient_share
from models.protocol import FOREIGN, Episodes, LearnerError, Span, Support, UnsupportedSupportError
from tests.models.fewshot.short_training import trained

KEYS = torch.tensor([[30, -10, 20]])
"""In rising order: class 1, class 2, class 0."""
DIM = 6


def learner_of(**changes: object) -> HyperMAML:
    """The hypernetwork's last layer starts as nearly nothing; here it says something."""
    torch.manual_seed(0)
    config = HyperMAMLConfig.model_validate({"ways": 3, "hidden": 16, **changes})
    learner = HyperMAML(Identity(IdentityConfig(dim=DIM)), config).eval()
    with torch.no_grad():
        for tail in learner.hypernet.tails.values():
            tail.weight.mul_(300)
        learner.universal.bias.normal_()
    return learner


def support_set(shots: int = 2) -> Support:
    rng = torch.Generator().manual_seed(1)
    targets = torch.arange(3).repeat(shots)[None]
    return Support.of(torch.randn(1, 3 * shots, DIM, generator=rng), targets, class_key=KEYS)


def queries(count: int = 4) -> Tensor:
    return torch.randn(1, count, DIM, generator=torch.Generator().manual_seed(2))


def episode(*, query_y: tuple[int, ...] = (0, 1, 2, FOREIGN, 0)) -> Episodes:
    support = support_set()
    count = len(query_y)
    return Episodes(
        support_x=support.features,
        support_y=support.targets,
        support_mask=support.mask,
        query_x=queries(count),
        query_y=torch.tensor([query_y]),
        query_mask=torch.tensor([[True] * (count - 1) + [False]]),
        n_way=torch.tensor([3]),
        unseen=torch.tensor([False]),
    )


def updates(learner: HyperMAML, order: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """ΔW and Δb by place, one class at a time, as in the paper's algorithm."""
    support, rows = support_set(), []
    for place, label in enumerate(order):
        described = []
        for x in support.features[0, support.targets[0] == label]:
            belief = learner.universal(x).softmax(0)
            described.append(torch.cat((x, belief, torch.tensor([float(place)]))))
        hidden = learner.hypernet.trunk(torch.stack(described).mean(0))
        rows.append(learner.hypernet.tails["delta"](hidden))
    return torch.stack(rows)[:, :DIM], torch.stack(rows)[:, DIM]


def unrolled(learner: HyperMAML, steps: int) -> tuple[Tensor, Tensor]:
    """θ after `steps` of autograd, each gradient at the weights the last step led to."""
    support = support_set()
    weight, bias = learner.universal.weight, learner.universal.bias
    for _ in range(steps):
        inner = F.cross_entropy(support.features[0] @ weight.T + bias, support.targets[0])
        by_weight, by_bias = torch.autograd.grad(inner, (weight, bias), create_graph=True)
        rate = learner.config.inner_lr
        weight, bias = weight - rate * by_weight, bias - rate * by_bias
    return weight, bias


def progress_at(learner: HyperMAML, epoch: int) -> float:
    return epoch / learner.config.epochs


@torch.no_grad()
def test_label_scalar_answers_are_the_mean_over_the_turns_of_the_canonical_order() -> None:
    learner, query, expected = learner_of(), queries(1)[0, 0], torch.zeros(3)
    for order in ((1, 2, 0), (2, 0, 1), (0, 1, 2)):
        by_weight, by_bias = updates(learner, order)
        logits = (learner.universal.weight - by_weight) @ query + learner.universal.bias - by_bias
        for place, label in enumerate(order):
            expected[label] += logits.softmax(0)[place] / 3
    answer = learner.predict(learner.adapt(support_set()), queries(1))
    assert_close(answer.probabilities[0, 0], expected)


@torch.no_grad()
def test_pitfall_06_label_scalar_the_same_class_at_another_place_gets_another_row() -> None:
    rows = learner_of().adapt(support_set()).rows["row"]
    assert not rows[:, :, 0].allclose(rows[:, :, 1], atol=1e-3)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_pitfall_07_multi_step_is_an_autograd_unroll_and_its_second_order_too(steps: int) -> None:
    learner, target = learner_of(inner_steps=steps, warm_up=10), torch.tensor([0, 1, 2])
    weight, bias = unrolled(learner, steps)
    expected = F.cross_entropy(queries(5)[0, :3] @ weight.T + bias, target)
    loss = learner.loss(episode(), 0.0).total[0]
    assert_close(loss, expected)
    parameters = (learner.universal.weight, learner.universal.bias)
    assert_close(torch.autograd.grad(loss, parameters), torch.autograd.grad(expected, parameters))


def test_pitfall_07_multi_step_gradients_are_taken_where_the_last_step_led() -> None:
    """The authors' code takes all of them at the start: as one step of several times the rate."""
    support, start = support_set(), torch.randn(1, 3, 1, DIM + 1, generator=torch.Generator().manual_seed(3))
    once = descend(start, support, 0.5, 1)
    assert_close(descend(start, support, 0.5, 2), descend(once, support, 0.5, 1))
    assert not descend(start, support, 0.5, 2).allclose(2 * once - start, atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("steps", [1, 3])
def test_pitfall_07_multi_step_the_hypernetwork_counts_once(steps: int) -> None:
    learner = learner_of(inner_steps=steps, epochs=100, warm_up=10, switch=4)
    share = 3 / 5
    with torch.enable_grad():
        weight, bias = unrolled(learner, steps)
    by_weight, by_bias = updates(learner, (0, 1, 2))
    weight = share * weight + (1 - share) * (learner.universal.weight - by_weight)
    bias = share * bias + (1 - share) * (learner.universal.bias - by_bias)
    expected = F.cross_entropy(queries(5)[0, :3] @ weight.T + bias, torch.tensor([0, 1, 2]))
    assert_close(learner.loss(episode(), progress_at(learner, 11)).total[0], expected)


@pytest.mark.parametrize(
    ("epoch", "share"),
    [
        (0, 1),
        (49, 1),
        (50, 500 / 501),
        (51, 499 / 501),
        (300, 250 / 501),
        (549, 1 / 501),
        (550, 0),
        (2048, 0),
    ],
)
def test_pitfall_08_schedule_of_the_switch(epoch: int, share: float) -> None:
    """1 for t < W, (S + W − t)/(S + 1) for W ≤ t < W + S, then 0, at the published W = 50 and S = 500."""
    assert gradient_share(epoch, 50, 500) == pytest.approx(share)
    assert learner_of().gradient_share(epoch / 2048) == pytest.approx(share)


def test_schedule_without_a_switch_is_a_step() -> None:
    assert [gradient_share(epoch, 2, 0) for epoch in (0, 1, 2, 3)] == [1, 1, 0, 0]
    assert gradient_share(0, 0, 0) == 0


@pytest.mark.parametrize(("epoch", "trained"), [(0, False), (9, False), (11, True), (60, True)])
def test_pitfall_15_one_shot_iterator_the_hypernetwork_learns_once_it_has_a_share(
    epoch: int, trained: bool
) -> None:
    learner = learner_of(epochs=100, warm_up=10, switch=50)
    learner.loss(episode(), progress_at(learner, epoch)).total.sum().backward()
    assert all((p.grad is not None and bool(p.grad.any())) is trained for p in learner.hypernet.parameters())
    assert learner.universal.weight.grad is not None


@torch.no_grad()
def test_answers_are_the_hypernetwork_alone() -> None:
    """However long the switch and whatever the inner steps: they are for training."""
    one, other = learner_of(warm_up=2000), learner_of(warm_up=0, switch=0, inner_steps=7, inner_lr=3.0)
    assert_close(one.adapt(support_set()).rows["row"], other.adapt(support_set()).rows["row"])


def test_no_gradient_through_the_universal_softmax() -> None:
    """Seen from θ, only θ − Δ with Δ held still."""
    learner = learner_of(warm_up=0, switch=0)
    by_weight, by_bias = (update.detach() for update in updates(learner, (0, 1, 2)))
    weight, bias = learner.universal.weight, learner.universal.bias
    logits = queries(5)[0, :3] @ (weight - by_weight).T + bias - by_bias
    expected = torch.autograd.grad(F.cross_entropy(logits, torch.tensor([0, 1, 2])), (weight, bias))
    total = learner.loss(episode(), 1.0).total.sum()
    assert_close(torch.autograd.grad(total, (weight, bias)), expected)


@torch.no_grad()
def test_loss_options_add_the_support_set_and_the_size_of_the_update() -> None:
    plain = learner_of(warm_up=0, switch=0).loss(episode(), 1.0)
    assert_close(plain.total, plain.parts["nll"])
    learner = learner_of(warm_up=0, switch=0, train_on_support=True, update_penalty=0.5)
    by_weight, by_bias = updates(learner, (0, 1, 2))
    support = support_set()
    logits = support.features[0] @ (learner.universal.weight - by_weight).T + learner.universal.bias - by_bias
    expected = F.cross_entropy(logits, support.targets[0])
    expected = expected + 0.5 * (by_weight.square().sum() + by_bias.square().sum())
    asked = learner.loss(episode(), 1.0)
    assert_close(asked.total[0], plain.total[0] + expected)
    assert_close(asked.parts["nll"], plain.parts["nll"])


@torch.no_grad()
def test_pitfall_24_sum_over_tasks_is_the_trainers_affair() -> None:
    """At θ = Δ = 0 each task costs log 3, however many there are."""
    learner = learner_of(warm_up=0, switch=0)
    for parameter in learner.parameters():
        parameter.zero_()
    assert_close(learner.loss(episode(), 1.0).total, torch.tensor([math.log(3)]))


@torch.no_grad()
def test_the_state_of_a_task_is_small() -> None:
    """325 numbers per order, as published for characters."""
    learner = HyperMAML(Identity(IdentityConfig(dim=64)), HyperMAMLConfig(hidden=4))
    weights = learner.adapt(Support.of(torch.randn(1, 5, 64), torch.arange(5)[None]))
    assert set(weights.task) == {"terms"}
    assert weights.rows["row"].shape == (1, 5, 5, 65)
    assert weights.rows["row"][:, :, 0].numel() == 325


@torch.no_grad()
def test_shots_are_free_since_descriptions_are_averaged() -> None:
    learner, once = learner_of(), support_set(1)
    thrice = Support.of(once.features.repeat(1, 3, 1), once.targets.repeat(1, 3), class_key=KEYS)
    assert_close(learner.adapt(once).rows["row"], learner.adapt(thrice).rows["row"])


@torch.no_grad()
def test_pitfall_05_fixed_way_another_is_refused() -> None:
    learner = learner_of()
    assert learner.traits.ways == Span(3, 3)
    with pytest.raises(UnsupportedSupportError, match="3 classes"):
        learner.adapt(Support.of(torch.randn(1, 4, DIM), torch.arange(4)[None]))


def test_what_cannot_be_built_says_why() -> None:
    with pytest.raises(LearnerError, match="fixed feature length"):
        HyperMAML(Identity(EncoderConfig()), HyperMAMLConfig())
    with pytest.raises(ValidationError, match="3 turns"):
        learner_of(orders=4)


@torch.no_grad()
def test_nothing_is_made_up() -> None:
    """No epistemic part, and no `unknown` before it is calibrated; its score is the energy."""
    learner = learner_of(orders=1)
    weights = learner.adapt(support_set())
    answer = learner.predict(weights, queries())
    assert answer.epistemic is None
    assert answer.unknown is None
    rows = weights.rows["row"][0, :, 0]
    assert answer.novelty is not None
    logits = queries()[0] @ rows[:, :DIM].T + rows[:, DIM]
    assert_close(answer.novelty[0], -logits.logsumexp(-1))


@torch.no_grad()
def test_many_queries_are_answered_in_parts_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    learner, query = learner_of(), queries(50)
    weights = learner.adapt(support_set())
    whole = learner.predict(weights, query)
    monkeypatch.setattr("models.fewshot.hypermaml.MOST_SAMPLED", 9 * 7)
    assert_close(learner.predict(weights, query).log_probs, whole.log_probs)
    assert learner.predict(weights, query[:, :0]).log_probs.shape == (1, 0, 3)


def test_a_short_training_ends_above_chance_and_calibrated(tmp_path: Path) -> None:
    made = trained(tmp_path, "hypermaml", training_steps=50, hidden=64)
    assert made.config.metrics["validation"]["accuracy_5w1s"] > 0.35
    assert made.learner.calibration.has_unknown
    assert made.learner.calibration.has_sets
