"""Fine-tuning on a support set: of HyperShot's hypernetwork where it serves, of whole models where it measures."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from experiments.fewshot.fine_tuning_protocol import FineTuned
from models.encoder_protocol import EncoderConfig
from models.encoders.conv4 import Conv4, Conv4Config
from models.encoders.identity import Identity, IdentityConfig
from models.fewshot.bayeshypershot import BayesHyperShot, BayesHyperShotConfig
from models.fewshot.common.fine_tuning import support_loss, tuned
from models.fewshot.hypermaml import HyperMAML, HyperMAMLConfig
from models.fewshot.hypershot import HyperShot, HyperShotConfig
from models.fewshot.protonet import ProtoNet, ProtoNetConfig
from models.protocol import Episodes, LearnerError, MetaLearner, Support
from models.registry import LearnerConfig, complete

KEYS = torch.tensor([[30, -10, 20], [5, 7, 6]])


def hypershot(steps: int | None = None, lr: float | None = 1e-2, bayes: bool = False) -> HyperShot:
    torch.manual_seed(0)
    described = {"ways": 3, "hidden": 16, "target_hidden": 8, "finetune_steps": steps, "finetune_lr": lr}
    encoder = Identity(EncoderConfig())
    if bayes:
        return BayesHyperShot(encoder, BayesHyperShotConfig.model_validate(described)).eval()
    return HyperShot(encoder, HyperShotConfig.model_validate(described)).eval()


def support_set(tasks: int = 1, shots: int = 2) -> Support:
    rng = torch.Generator().manual_seed(1)
    targets = torch.arange(3).repeat(shots).expand(tasks, -1)
    return Support.of(torch.randn(tasks, 3 * shots, 6, generator=rng), targets, class_key=KEYS[:tasks])


def loss_of(learner: MetaLearner, support: Support) -> float:
    with torch.no_grad():
        return float(support_loss(learner.predict(learner.adapt(support), support.features), support))


def test_steps_are_those_of_adam() -> None:
    start = torch.tensor([1.0, -2.0, 0.5])

    def loss(x: Tensor) -> Tensor:
        return (x**4).sum() + x[0] * x[1]

    reference = start.clone().requires_grad_()
    optimiser = torch.optim.Adam([reference], lr=0.1)
    for _ in range(5):
        optimiser.zero_grad()
        loss(reference).backward()
        optimiser.step()
    with torch.no_grad():
        found = tuned({"x": start}, lambda fast: loss(fast["x"]), 5, 0.1)
    assert_close(found["x"], reference.detach())
    assert_close(start, torch.tensor([1.0, -2.0, 0.5]))


@pytest.mark.parametrize("bayes", [False, True])
def test_pitfall_11_finetuning_lowers_the_support_loss(bayes: bool) -> None:
    losses = [loss_of(hypershot(steps, bayes=bayes), support_set()) for steps in (None, 2, 10, 40)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.7 * losses[0]


def test_pitfall_11_an_exception_of_finetuning_is_not_swallowed() -> None:
    support = support_set()
    with pytest.raises(LearnerError, match="diverges"):
        hypershot(3, lr=1e38).adapt(support)
    with pytest.raises(ZeroDivisionError):
        tuned({"x": torch.ones(1)}, lambda fast: fast["x"].sum() * (1 // 0), 1, 0.1)


def test_each_task_is_tuned_alone_and_the_learner_is_left_as_it_was() -> None:
    learner, support = hypershot(3), support_set(2)
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    both = learner.adapt(support)
    alone = Support.of(support.features[1:], support.targets[1:], class_key=KEYS[1:])
    assert_close(both.task["weight0"][1:], learner.adapt(alone).task["weight0"])
    assert all(torch.equal(value, before[name]) for name, value in learner.state_dict().items())
    assert not any(value.requires_grad for value in both.task.values())


def test_what_is_kept_is_as_small_as_without() -> None:
    plain, fine = hypershot().adapt(support_set()), hypershot(2).adapt(support_set())
    assert {n: v.shape for n, v in plain.task.items()} == {n: v.shape for n, v in fine.task.items()}
    assert {n: v.shape for n, v in plain.rows.items()} == {n: v.shape for n, v in fine.rows.items()}


def test_an_option_that_is_not_given_does_not_enter_the_description() -> None:
    config = LearnerConfig(
        code_version="0",
        method="hypershot",
        encoder="conv4",
        input={"kind": "image"},
        hparams={"orders": None},
    )
    found = complete(config).hparams
    assert "finetune_steps" not in found, "descriptions from before it was there keep their digest"
    assert found["orders"] is None


def whole(method: str) -> MetaLearner:
    torch.manual_seed(0)
    encoder = Conv4(Conv4Config(width=4))
    if method == "hypershot":
        return HyperShot(encoder, HyperShotConfig(ways=2, hidden=8, target_hidden=4, orders=1)).eval()
    return HyperMAML(encoder, HyperMAMLConfig(ways=2, hidden=8, orders=1)).eval()


@pytest.mark.parametrize("method", ["hypershot", "hypermaml"])
def test_pitfall_11_tuning_the_whole_model_lowers_the_support_loss(method: str) -> None:
    learner, rng = whole(method), torch.Generator().manual_seed(1)
    support = Support.of(torch.rand(2, 4, 1, 28, 28, generator=rng), torch.tensor([[0, 0, 1, 1]] * 2))
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    untouched, tuned_model = FineTuned(learner, 0), FineTuned(learner, 6, lr=1e-2)
    assert loss_of(tuned_model, support) < loss_of(untouched, support)
    assert all(torch.equal(value, before[name]) for name, value in learner.state_dict().items())
    embedded = Support.of(learner.embed(support.features.flatten(0, 1)).unflatten(0, (2, 4)), support.targets)
    assert loss_of(untouched, support) == pytest.approx(loss_of(learner, embedded), abs=1e-5)


def test_whole_models_are_tuned_for_measuring_alone_and_of_these_methods_alone() -> None:
    with pytest.raises(LearnerError, match="hypershot, hypermaml"):
        FineTuned(ProtoNet(Identity(IdentityConfig()), ProtoNetConfig()), 1)
    with pytest.raises(LearnerError, match="cannot be trained"):
        FineTuned(whole("hypershot"), 1).loss(object.__new__(Episodes), 0.0)
