"""MetaNet against its equations, one example at a time; gradients against autograd's own."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from models.encoder_protocol import EncoderConfig
from models.encoders.identity import Identity, IdentityConfig
from models.fewshot.hypermaml import with_one
from models.fewshot.metanet import MetaNet, MetaNetConfig
from models.hypernets.gradient_maps import GradientLstm, GradientMlp, preprocessed
from models.protocol import LearnerError, Span, Support, TaskWeights, UnsupportedSupportError
from tests.models.fewshot.short_training import trained

DIM, WIDTH = 4, 6
TARGETS = torch.tensor([0, 1, 2, 1, 2, 2])
KEYS = torch.tensor([[30, -10, 20]])
"""In rising order: class 1, class 2, class 0."""
PLACES = torch.tensor([2, 0, 1])

both_forms = pytest.mark.parametrize("ways", [None, 3])


def drawn(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def learner_of(**changes: object) -> MetaNet:
    torch.manual_seed(0)
    config = MetaNetConfig.model_validate({"width": WIDTH, "units": 5, **changes})
    return MetaNet(Identity(IdentityConfig(dim=DIM)), config).eval()


def support_set(targets: Tensor = TARGETS) -> Support:
    return Support.of(drawn(1, len(targets), DIM), targets[None], class_key=KEYS)


def adapted(learner: MetaNet) -> TaskWeights:
    return learner.adapt(support_set())


def answered(learner: MetaNet, features: Tensor) -> Tensor:
    return learner.predict(adapted(learner), features).probabilities


def test_preprocessing_is_that_of_hand_values() -> None:
    """The bound is e^−7 ≈ 9.1e-4: below it numbers are scaled, above it their logarithm is taken."""
    found = preprocessed(torch.tensor([1.0, -math.e, math.exp(-3.5), -1e-4, 0.0]))
    expected = [[0, 1], [1 / 7, -1], [-0.5, 1], [-1, -1e-4 * math.exp(7)], [-1, 0]]
    assert_close(found, torch.tensor(expected))


def test_preprocessing_is_continuous_at_its_bound() -> None:
    bound = math.exp(-7)
    below, above = preprocessed(torch.tensor([bound * (1 - 1e-5), bound * (1 + 1e-5)]))
    assert_close(below, above, atol=1e-4, rtol=0)


@torch.no_grad()
def test_every_coordinate_goes_through_the_same_map() -> None:
    torch.manual_seed(0)
    mlp, lstm = GradientMlp(5), GradientLstm(5)
    gradients, count = drawn(2, 4, 3, 7), torch.tensor([4, 2])
    assert_close(mlp(gradients)[1, 2, 0, 5], mlp(gradients[1, 2, 0, 5][None])[0])
    read = lstm(gradients, count)
    assert read.shape == (2, 3, 7)
    for task, steps in enumerate(count.tolist()):
        alone = gradients[task, :steps, 1, 4].view(1, steps, 1, 1)
        assert_close(read[task, 1, 4], lstm(alone, torch.tensor([steps]))[0, 0, 0])


@torch.no_grad()
def test_what_stands_behind_the_last_gradient_is_not_read() -> None:
    torch.manual_seed(0)
    lstm, gradients = GradientLstm(5), drawn(1, 4, 3, 2)
    other = gradients.clone()
    other[:, 2:] = 9.0
    assert lstm(gradients, torch.tensor([2])).equal(lstm(other, torch.tensor([2])))
    assert not lstm(gradients, torch.tensor([3])).allclose(lstm(other, torch.tensor([3])))


def test_gradients_of_the_representation_are_autograds() -> None:
    learner, support = learner_of(), support_set()
    x = with_one(support.features)
    found, loss = learner.representation_gradients(support, x)
    own = F.relu(x[0] @ learner.representation.T)
    centres = torch.stack([own[label == TARGETS].mean(0) for label in range(3)]).detach()
    for label in range(3):
        mine = own[label == TARGETS] @ centres.T / math.sqrt(WIDTH)
        expected = F.cross_entropy(mine, torch.full((len(mine),), label))
        assert_close(loss[0, label], expected)
        (gradient,) = torch.autograd.grad(expected, learner.representation, retain_graph=True)
        assert_close(found[0, label], gradient)


def test_gradients_of_the_classifier_are_autograds_for_each_example() -> None:
    learner, support = learner_of(ways=3), support_set()
    assert learner.slow is not None
    x = with_one(support.features)
    found = learner.classifier_gradients(support, x)[0]
    for index, (one, label) in enumerate(zip(x[0], TARGETS, strict=True)):
        loss = F.cross_entropy(learner.slow @ one, PLACES[label])
        (gradient,) = torch.autograd.grad(loss, learner.slow)
        assert_close(found[index], gradient[PLACES])


def test_gradients_without_slow_weights_are_those_at_zero() -> None:
    learner, support = learner_of(), support_set()
    x, zero = with_one(support.features), torch.zeros(3, DIM + 1, requires_grad=True)
    found = learner.classifier_gradients(support, x)[0]
    for index, (one, label) in enumerate(zip(x[0], TARGETS, strict=True)):
        (gradient,) = torch.autograd.grad(F.cross_entropy(zero @ one, label), zero)
        others = [row for row in range(3) if row != label]
        assert_close(found[index, 0], gradient[label])
        assert all(found[index, 1].allclose(gradient[row]) for row in others)


@torch.no_grad()
@both_forms
def test_layers_are_augmented(ways: int | None) -> None:
    """ReLU of the slow plus ReLU of the fast path; in the last layer, the sum of the logits."""
    learner, query = learner_of(ways=ways), drawn(1, 3, DIM, seed=2)
    weights = adapted(learner)
    fast = weights.task["fast"][0]
    for index, one in enumerate(with_one(query)[0]):
        represented = F.relu(learner.representation @ one) + F.relu(fast @ one)
        cosine = F.cosine_similarity(represented, weights.rows["key"][0])
        attention = cosine.softmax(0)
        assert_close(learner.attention(weights, query)[0, index], attention)
        memory = weights.rows["memory"][0]
        if learner.slow is None:
            logits = attention * (memory @ one)
        else:
            recalled = (attention[:, None, None] * memory).sum(0)
            logits = learner.slow[PLACES] @ one + recalled @ one
        assert_close(learner.logits(weights, query)[0, index], logits)


@torch.no_grad()
def test_two_kinds_of_rows_answer_as_all_rows_of_every_example_would() -> None:
    """Any way: the full W* = Σ a W*_i over one shot, rows of the own class and of all others written out."""
    learner, query = learner_of(), drawn(1, 5, DIM, seed=2)
    support = support_set(torch.tensor([0, 1, 2]))
    weights = learner.adapt(support)
    attention = learner.attention(weights, query)[0]
    own, other = learner.read_classifier(learner.classifier_gradients(support, with_one(support.features)))[
        0
    ].unbind(1)
    written = torch.stack(
        [torch.stack([own[i] if row == i else other[i] for row in range(3)]) for i in range(3)]
    )
    full = torch.einsum("qi,icr,qr->qc", attention, written, with_one(query)[0])
    assert_close(learner.predict(weights, query).probabilities[0], full.softmax(-1))


@torch.no_grad()
def test_slots_of_a_class_are_the_means_of_its_examples() -> None:
    learner, support = learner_of(), support_set()
    x, weights = with_one(support.features), adapted(learner)
    fast = weights.task["fast"]
    own = F.relu(x @ learner.representation.T) + F.relu(x @ fast.mT)
    kinds = learner.read_classifier(learner.classifier_gradients(support, x))[0]
    for label in range(3):
        member = label == TARGETS
        assert_close(weights.rows["key"][0, label], own[0, member].mean(0))
        assert_close(weights.rows["memory"][0, label], (kinds[member, 0] - kinds[member, 1]).mean(0))


@torch.no_grad()
@both_forms
def test_attention_sums_to_one_and_is_not_paid_to_padding(ways: int | None) -> None:
    learner = learner_of(ways=ways)
    assert_close(learner.attention(adapted(learner), drawn(1, 4, DIM)).sum(-1), torch.ones(1, 4))
    if ways is None:
        targets = torch.tensor([[0, 1, 2], [0, 1, 1]])
        padded = Support.of(drawn(2, 3, DIM), targets, torch.tensor([3, 2]))
        attention = learner.attention(learner.adapt(padded), drawn(2, 4, DIM, seed=2))
        assert_close(attention.sum(-1), torch.ones(2, 4))
        assert not attention[1, :, 2].any()


@torch.no_grad()
def test_sharpness_is_where_attention_begins() -> None:
    query = drawn(1, 4, DIM, seed=2)
    blunt, sharp = (learner_of(sharpness=sharpness) for sharpness in (1, 50))
    one, other = (learner.attention(adapted(learner), query).amax(-1) for learner in (blunt, sharp))
    assert (other > one).all()


@torch.no_grad()
def test_pitfall_4_class_order_is_that_of_the_keys() -> None:
    learner, query = learner_of(ways=3), drawn(1, 5, DIM, seed=2)
    turned = torch.tensor([2, 0, 1])
    relabelled = Support.of(
        support_set().features, turned[TARGETS][None], class_key=KEYS[:, turned.argsort()]
    )
    other = learner.predict(learner.adapt(relabelled), query).probabilities
    assert_close(other[..., turned], answered(learner, query))


def test_pitfall_5_another_way_is_refused_with_the_ways_it_takes() -> None:
    learner = learner_of(ways=5)
    assert learner.traits.ways == Span(5, 5)
    with pytest.raises(UnsupportedSupportError, match="5 classes"):
        adapted(learner)


@torch.no_grad()
@pytest.mark.parametrize("way", [2, 7])
def test_any_way_without_slow_weights_of_classes(way: int) -> None:
    learner = learner_of()
    support = Support.of(drawn(1, way, DIM), torch.arange(way)[None])
    weights = learner.adapt(support)
    assert weights.task["fast"].shape == (1, WIDTH, DIM + 1)
    assert weights.rows["memory"].shape == (1, way, DIM + 1)
    assert learner.predict(weights, drawn(1, 2, DIM)).log_probs.shape == (1, 2, way)


@torch.no_grad()
@pytest.mark.parametrize(("ways", "slots"), [(None, DIM + 1), (3, 3 * (DIM + 1))])
def test_task_weights_are_of_the_stated_size_whatever_the_shots(ways: int | None, slots: int) -> None:
    learner = learner_of(ways=ways)
    for targets in (torch.arange(3), TARGETS.repeat(3)):
        weights = learner.adapt(support_set(targets))
        assert weights.task["fast"].numel() == WIDTH * (DIM + 1)
        assert weights.rows["key"].numel() == 3 * WIDTH
        assert weights.rows["memory"].numel() == 3 * slots


@torch.no_grad()
def test_the_large_fast_weights_may_be_left_out() -> None:
    learner = learner_of(fast="classifier")
    assert "fast" not in adapted(learner).task
    assert_close(answered(learner, drawn(1, 3, DIM)).sum(-1), torch.ones(1, 3))


@both_forms
def test_every_part_learns_and_gradients_flow_through_gradients_where_asked(ways: int | None) -> None:
    """But for the last bias of m where the difference of two rows is all that counts: there it cancels."""
    support, query = support_set(), drawn(1, 4, DIM, seed=2)
    slopes = []
    for differentiated in (False, True):
        learner = learner_of(ways=ways, differentiated=differentiated)
        leaf = support.features.clone().requires_grad_()
        moved = Support.of(leaf, support.targets, class_key=KEYS)
        learner.logits(learner.adapt(moved), query)[0, :, 0].sum().backward()
        idle = {name for name, p in learner.named_parameters() if p.grad is None or not p.grad.any()}
        assert idle == ({"read_classifier.layers.4.bias"} if ways is None else set())
        slopes.append(leaf.grad)
    assert all(slope is not None and slope.isfinite().all() for slope in slopes)
    assert not torch.allclose(*slopes)


def test_nothing_is_made_up() -> None:
    learner = learner_of()
    answer = learner.predict(adapted(learner), drawn(1, 2, DIM))
    assert answer.epistemic is None
    assert answer.unknown is None


def test_features_of_any_length_are_refused() -> None:
    with pytest.raises(LearnerError, match="fixed feature length"):
        MetaNet(Identity(EncoderConfig()), MetaNetConfig())


def test_a_short_training_learns(tmp_path: Path) -> None:
    made = trained(tmp_path, "metanet", training_steps=50, width=16)
    assert made.config.metrics["validation"]["accuracy_5w1s"] > 0.4
