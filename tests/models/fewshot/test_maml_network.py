"""MAML on the whole network: the statistics of the support set, task by task and all at once."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from models.encoders.conv4 import Conv4, Conv4Config
from models.fewshot.common.inner_network import SupportNorm
from models.fewshot.common.per_task import at_once
from models.protocol import Episodes, Support
from tests.models.fewshot.maml_cases import TARGETS, episodes_of, network_learner, pictures, support_of
from tests.models.fewshot.short_training import trained


def test_pitfall_01_transductive_bn_answers_do_not_depend_on_other_queries() -> None:
    learner, query = network_learner(), pictures(64, seed=2)
    with torch.no_grad():
        weights = learner.adapt(support_of(pictures(6)))
        whole = learner.predict(weights, query).log_probs
        alone = torch.cat([learner.predict(weights, one).log_probs for one in query.split(1, dim=1)], dim=1)
    assert_close(alone, whole, atol=1e-5, rtol=1e-4)


def test_the_whole_network_is_adapted_as_by_plain_autograd() -> None:
    learner, x, query = network_learner(), pictures(6), pictures(3, seed=2)
    torch.manual_seed(0)
    plain = Conv4(Conv4Config(width=3)).train()
    for norm in (module for module in plain.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.momentum = 1.0
    head = nn.Linear(3, 3)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    moved = [*plain.parameters(), *head.parameters()]
    for _ in range(2):
        loss = F.cross_entropy(head(plain(x[0])), TARGETS[0])
        gradients = torch.autograd.grad(loss, moved)
        with torch.no_grad():
            for value, gradient in zip(moved, gradients, strict=True):
                value.sub_(0.1 * gradient)
    with torch.no_grad():
        # What plain BatchNorm makes of the queries beside the supports is not asked: only its support statistics.
        kept: dict[str, Tensor] = {}
        for name, module in plain.named_modules():
            if isinstance(module, nn.BatchNorm2d):
                module.register_forward_pre_hook(
                    lambda _, entered, name=name: kept.__setitem__(
                        name, entered[0].var((0, 2, 3), unbiased=False)
                    )
                )
        plain(x[0])
        for name, module in plain.named_modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_var is not None
                module.running_var.copy_(kept[name])
        expected = head(plain.eval()(query[0])).log_softmax(-1)
        answer = learner.predict(learner.adapt(support_of(x)), query)
    assert_close(answer.log_probs[0], expected, atol=1e-5, rtol=1e-4)


def test_statistics_travel_with_the_weights_and_the_learner_keeps_none() -> None:
    learner = network_learner()
    weights = learner.adapt(support_of(pictures(6)))
    held = [name for name in weights.task if name.startswith("statistics.")]
    assert len(held) == 8
    norms = [module for module in learner.modules() if isinstance(module, SupportNorm)]
    assert len(norms) == 4
    assert all(not norm.mean.numel() for norm in norms)
    for missing in ("statistics.blocks.0.1.mean", "network.blocks.0.0.weight"):
        kept = {name: value for name, value in weights.task.items() if name != missing}
        with pytest.raises(RuntimeError, match="Missing"):
            learner.predict(replace(weights, task=kept), pictures(1))


def three_tasks() -> Episodes:
    """One of fewer supports, one whose classes the network is not trained on."""
    rng = torch.Generator().manual_seed(3)
    real = torch.ones(3, 6, dtype=torch.bool)
    real[1, 5] = False
    asked = torch.tensor([[0, 2, 1]]).expand(3, 3)
    return Episodes(
        torch.rand(3, 6, 1, 28, 28, generator=rng),
        TARGETS.repeat(3, 1),
        real,
        torch.rand(3, 3, 1, 28, 28, generator=rng),
        asked,
        torch.ones(3, 3, dtype=torch.bool),
        torch.full((3,), 3),
        torch.tensor([False, False, True]),
    )


@pytest.mark.parametrize("order", ["first", "second"])
def test_task_by_task_and_all_at_once_are_the_same(order: str) -> None:
    episodes, found = three_tasks(), {}
    for together in (False, True):
        learner = network_learner(ways=3, order=order, learned_rates=True, multi_step=True)
        learner.together = together
        total = learner.loss(episodes, 0.0).total
        total.mean().backward()
        gradients = {name: p.grad for name, p in learner.named_parameters() if p.grad is not None}
        with torch.no_grad():
            weights = learner.adapt(
                Support.of(episodes.support_x, episodes.support_y, mask=episodes.support_mask)
            )
            answer = learner.predict(weights, episodes.query_x).log_probs
        found[together] = (total.detach(), gradients, dict(weights.task), answer)
    assert_close(found[True], found[False], atol=1e-5, rtol=1e-4)


def test_whole_networks_run_in_turn_on_a_cpu_and_together_on_a_gpu() -> None:
    assert network_learner().together is None
    assert not at_once(torch.device("cpu"))
    assert at_once(torch.device("cuda"))


def test_tasks_of_unseen_classes_do_not_train_the_network() -> None:
    learner = network_learner(steps=1)
    asked = episodes_of(pictures(6), pictures(3, seed=2), torch.tensor([[0, 1, 2]]))
    assert learner.loss(asked, 0.0).total.requires_grad
    assert not learner.loss(replace(asked, unseen=torch.ones(1, dtype=torch.bool)), 0.0).total.requires_grad


@pytest.mark.slow
def test_a_short_training_of_the_whole_network_learns(tmp_path: Path) -> None:
    made = trained(tmp_path, "maml", training_steps=15, adapts="all", steps=2, ways=5)
    assert made.config.metrics["validation"]["accuracy_5w1s"] > 0.3
