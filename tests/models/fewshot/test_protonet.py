"""ProtoNet against numbers worked out by hand."""

import math

import pytest
import torch
from torch.testing import assert_close

from models.encoders.identity import Identity
from models.fewshot.classes import squared_distances
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
