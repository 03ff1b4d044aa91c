"""ProtoNet against numbers worked out by hand."""

import math

import pytest
import torch
from torch.testing import assert_close

from models.encoders.identity import Identity
from models.fewshot import protonet as protonet_module
from models.fewshot.common.classification import squared_distances
from models.fewshot.protonet import ProtoNet
from models.predictive import Categorical
from models.protocol import FOREIGN, Episodes, Support, TaskWeights

# Class 0 at (0, 0) and (0, 2), class 1 at (4, 1): prototypes (0, 1) and (4, 1).
SUPPORT_X = torch.tensor([[[0.0, 0.0], [4.0, 1.0], [0.0, 2.0]]])
SUPPORT_Y = torch.tensor([[0, 1, 0]])


def protonet(metric: str = "euclidean") -> ProtoNet:
    return ProtoNet(Identity(Identity.Config()), ProtoNet.Config.model_validate({"metric": metric}))


def adapted(learner: ProtoNet) -> TaskWeights:
    return learner.adapt(Support.of(SUPPORT_X, SUPPORT_Y))


def test_prototypes_are_means_and_shots_are_counted() -> None:
    weights = adapted(protonet())
    assert_close(weights.rows["prototype"], torch.tensor([[[0.0, 1.0], [4.0, 1.0]]]))
    assert_close(weights.rows["shots"], torch.tensor([[2.0, 1.0]]))


def test_logits_are_squared_distances() -> None:
    # (1.5, 1) is 2.25 from class 0 and 6.25 from class 1: the odds are e⁴.
    learner = protonet()
    answer = learner.predict(adapted(learner), torch.tensor([[[1.5, 1.0]]]))
    assert isinstance(answer, Categorical)
    assert_close(answer.probabilities[0, 0, 0].item(), 1 / (1 + math.exp(-4)))


def test_cosine_distances_are_those_of_unit_vectors() -> None:
    # (0, 3) has cosine 1 with (0, 1) and 1/√17 with (4, 1); ‖a − b‖² = 2 − 2 cos.
    learner = protonet("cosine")
    answer = learner.predict(adapted(learner), torch.tensor([[[0.0, 3.0]]]))
    odds = math.exp(2 - 2 / math.sqrt(17))
    assert_close(answer.probabilities[0, 0, 0].item(), odds / (1 + odds))


def test_the_loss_is_the_mean_over_known_queries_in_units_of_log_way() -> None:
    # (1.5, 1) of class 0 has odds e⁴, (2, 1) of class 1 has odds 1; foreign and padded queries do not count.
    episodes = Episodes(
        support_x=SUPPORT_X,
        support_y=SUPPORT_Y,
        support_mask=torch.ones(1, 3, dtype=torch.bool),
        query_x=torch.tensor([[[1.5, 1.0], [2.0, 1.0], [9.0, 9.0], [7.0, 7.0]]]),
        query_y=torch.tensor([[0, 1, FOREIGN, 1]]),
        query_mask=torch.tensor([[True, True, True, False]]),
        n_way=torch.tensor([2]),
        unseen=torch.tensor([False]),
    )
    losses = protonet().loss(episodes, 0.0)
    nll = (math.log(1 + math.exp(-4)) + math.log(2)) / 2
    assert_close(losses.parts["nll"], torch.tensor([nll]))
    assert_close(losses.total, torch.tensor([nll / math.log(2)]))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_auto_answers_alike_at_any_scale_of_the_embedding(scale: float) -> None:
    learner, rng = protonet("auto"), torch.Generator().manual_seed(0)
    y = torch.arange(3).repeat(4)[None]
    x = 2 * torch.randn(3, 8, generator=rng)[y] + torch.randn(1, 12, 8, generator=rng)
    query = torch.randn(1, 5, 8, generator=rng)
    plain = learner.predict(learner.adapt(Support.of(x, y)), query)
    scaled = learner.predict(learner.adapt(Support.of(scale * x, y)), scale * query)
    assert_close(scaled.probabilities, plain.probabilities, atol=1e-4, rtol=0)


def test_far_from_the_origin_digits_are_kept() -> None:
    learner = protonet()
    far = torch.tensor([1000.0, -1000.0])
    near = learner.predict(adapted(learner), torch.tensor([[[1.5, 1.0]]]))
    there = learner.predict(
        learner.adapt(Support.of(SUPPORT_X + far, SUPPORT_Y)), torch.tensor([[[1.5, 1.0]]]) + far
    )
    assert_close(there.probabilities, near.probabilities, atol=1e-4, rtol=0)


def test_a_prior_is_a_running_sum() -> None:
    learner = protonet()
    first = learner.adapt(Support.of(SUPPORT_X[:, :1], SUPPORT_Y[:, :1]))
    grown = learner.adapt(Support.of(SUPPORT_X[:, 1:], SUPPORT_Y[:, 1:]), prior=first)
    assert_close(grown.rows["prototype"], adapted(learner).rows["prototype"])


def test_distances_far_from_zero_do_not_depend_on_padding() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = 1000 + torch.randn((1, 5, 16), generator=generator)
    query = 1000 + torch.randn((1, 3, 16), generator=generator)
    exact = (query.double()[:, :, None] - rows.double()[:, None]).square().sum(-1).float()
    padded = torch.cat((rows, torch.zeros(1, 145, 16)), dim=1)
    assert torch.allclose(squared_distances(query, rows), exact, atol=1e-3)
    assert torch.allclose(squared_distances(query, padded)[..., :5], exact, atol=1e-3)


@pytest.mark.parametrize("distance", [1e4, 1e6, 1e8])
def test_very_distant_queries_do_not_tie(distance: float) -> None:
    # Seen from far along the x axis the odds are e^(2·4·x − ‖r‖² terms): all for class 1, none the other way.
    learner = protonet()
    answer = learner.predict(adapted(learner), torch.tensor([[[distance, 1.0], [-distance, 1.0]]]))
    assert isinstance(answer, Categorical)
    assert answer.log_probs.argmax(-1).tolist() == [[1, 0]]
    assert answer.probabilities.amax(-1).tolist() == [[1.0, 1.0]]
    assert answer.novelty is not None
    assert (answer.novelty > 0).all()


def test_far_off_to_the_side_the_odds_are_exact() -> None:
    # Along the axis between the prototypes, however far, both are equally near.
    learner = protonet()
    answer = learner.predict(adapted(learner), torch.tensor([[[2.125, 1e7]]]))
    assert_close(answer.log_probs[0, 0, 1] - answer.log_probs[0, 0, 0], torch.tensor(1.0))


@pytest.mark.parametrize("bound", [40, 60])
def test_the_metric_of_a_huge_support_set_is_chosen_by_a_part_of_it(
    monkeypatch: pytest.MonkeyPatch, bound: int
) -> None:
    """Directions tell these classes apart and lengths do not; the order of examples does not matter."""
    monkeypatch.setattr(protonet_module, "_MOST_TESTED", bound)
    rng = torch.Generator().manual_seed(0)
    y = torch.arange(4).repeat(50)
    x = torch.randn(4, 16, generator=rng)[y] + 0.3 * torch.randn(200, 16, generator=rng)
    x = x * torch.exp(1.5 * torch.randn(200, 1, generator=rng))
    learner, order = protonet("auto"), torch.randperm(200, generator=rng)
    weights = learner.adapt(Support.of(x[None], y[None]))
    turned = learner.adapt(Support.of(x[None, order], y[None, order]))
    assert weights.task["cosine"].tolist() == turned.task["cosine"].tolist() == [1.0]
    assert_close(weights.rows["prototype"], turned.rows["prototype"])


def test_a_bounded_support_set_keeps_what_belongs_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protonet_module, "_MOST_TESTED", 3)
    x = torch.arange(12.0).view(2, 6, 1)
    mask = torch.tensor([[True] * 6, [True, True, False, False, False, False]])
    targets = x[..., 0].long() % 2
    part = protonet_module._bounded(Support.of(x, targets, mask=mask))
    assert part.targets.equal(part.features[..., 0].long() % 2)
    assert part.mask.sum(1).tolist() == [3, 2]
    assert set(part.features[1, part.mask[1], 0].tolist()) == {6.0, 7.0}
