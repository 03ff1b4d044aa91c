"""The papers' BatchNorm mode: what it is, whose it is, and that nothing but measuring may use it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from experiments.fewshot.transductive_protocol import Transductive
from models.encoder_protocol import EncoderConfig
from models.encoders.conv4 import Conv4, Conv4Config
from models.encoders.identity import Identity, IdentityConfig
from models.fewshot.hypermaml import HyperMAML, HyperMAMLConfig
from models.fewshot.maml import Maml, MamlConfig
from models.fewshot.protonet import ProtoNet, ProtoNetConfig
from models.predictive import Categorical
from models.protocol import Episodes, LearnerError, MetaLearner, Support
from models.registry import METHODS

WAY, SHOT, QUERIES = 2, 2, 6


def hypermaml() -> HyperMAML:
    torch.manual_seed(0)
    learner = HyperMAML(Conv4(Conv4Config(width=4)), HyperMAMLConfig(ways=WAY, hidden=8)).eval()
    torch.nn.init.normal_(learner.hypernet.tails["delta"].weight)
    return learner


def maml() -> Maml:
    torch.manual_seed(0)
    config = MamlConfig(adapts="all", ways=WAY, steps=1, inner_lr=0.1)
    return Maml(Conv4(Conv4Config(width=4)), config).eval()


def tasks(count: int = 2) -> tuple[Support, Tensor]:
    rng = torch.Generator().manual_seed(1)
    support = torch.rand(count, WAY * SHOT, 1, 28, 28, generator=rng)
    targets = torch.arange(WAY).repeat_interleave(SHOT).expand(count, -1)
    return Support.of(support, targets), torch.rand(count, QUERIES, 1, 28, 28, generator=rng)


def answer(learner: MetaLearner, support: Support, query: Tensor) -> Tensor:
    with torch.no_grad():
        found = learner.predict(learner.adapt(support), query)
    assert isinstance(found, Categorical)
    return found.log_probs


def by_hand(encoder: Conv4, x: Tensor) -> Tensor:
    """Conv-4 with BatchNorm over exactly this batch."""
    for block in encoder.blocks:
        conv, norm = block[0], block[1]
        x = F.conv2d(x, conv.weight, padding=1)
        x = F.batch_norm(x, None, None, norm.weight, norm.bias, training=True, eps=norm.eps)
        x = F.max_pool2d(x.relu(), 2)
    return x.flatten(1)


def test_statistics_are_those_of_the_support_set_and_of_the_queries_of_each_task() -> None:
    learner, (support, query) = hypermaml(), tasks()
    features = torch.stack([by_hand(learner.encoder, x) for x in support.features])
    expected = learner.predict(
        learner.adapt(Support.of(features, support.targets)),
        torch.stack([by_hand(learner.encoder, x) for x in query]),
    )
    found = answer(Transductive(learner), support, query)
    assert_close(found, expected.log_probs.detach(), atol=1e-4, rtol=1e-3)


def test_a_network_that_adapts_measures_the_queries_asked() -> None:
    learner, (support, query) = maml(), tasks(1)
    with torch.no_grad():
        weights = learner.adapt(support)
        own = {
            name.removeprefix("network."): value[0]
            for name, value in weights.task.items()
            if name.startswith("network.")
        }
        features = learner.inner.features(own, query[0])
        logits = features @ weights.rows["weight"][0].T + weights.rows["bias"][0]
    assert_close(answer(Transductive(learner), support, query)[0], logits.log_softmax(-1))


@pytest.mark.parametrize("make", [hypermaml, maml])
def test_pitfall_01_answers_depend_on_batch_mates_in_this_protocol_alone(make: type[MetaLearner]) -> None:
    learner, (support, query) = make(), tasks(1)
    measured = Transductive(learner)
    assert measured.traits.transductive
    apart = answer(measured, support, query[:, :3]) - answer(measured, support, query)[:, :3]
    assert float(apart.abs().max()) > 1e-3
    with torch.no_grad():
        embedded = Support.of(
            learner.embed(support.features.flatten(0, 1)).unflatten(0, support.features.shape[:2]),
            support.targets,
        )
        asked = learner.embed(query.flatten(0, 1)).unflatten(0, query.shape[:2])
    assert_close(answer(learner, embedded, asked[:, :3]), answer(learner, embedded, asked)[:, :3])


def test_the_learner_itself_is_left_as_it_was() -> None:
    learner = hypermaml()
    before = [type(module) for module in learner.modules()]
    Transductive(learner)
    assert [type(module) for module in learner.modules()] == before


def test_only_the_maml_family_has_the_mode_and_only_with_batchnorm() -> None:
    with pytest.raises(LearnerError, match="maml, hypermaml or bayeshmaml"):
        Transductive(ProtoNet(Identity(EncoderConfig()), ProtoNetConfig()))
    with pytest.raises(LearnerError, match="BatchNorm"):
        Transductive(HyperMAML(Identity(IdentityConfig(dim=4)), HyperMAMLConfig(ways=2, hidden=4)))


def test_it_can_be_neither_trained_nor_described_nor_served() -> None:
    assert not any("ransductive" in path for path in METHODS.paths.values())
    episodes = object.__new__(Episodes)
    with pytest.raises(LearnerError, match="cannot be trained"):
        Transductive(hypermaml()).loss(episodes, 0.0)
