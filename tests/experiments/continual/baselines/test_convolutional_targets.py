"""Baselines with the main networks that hypernetworks write: one vector, and the gradients of single examples."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from experiments.continual.baselines.continual_method import ComparisonSetting, NoConfig
from experiments.continual.baselines.ewc import Ewc, EwcConfig
from experiments.continual.baselines.experience_replay import ExperienceReplay, ReplayConfig
from experiments.continual.baselines.flat_networks import FlatTargetNetwork, Network, main_network
from experiments.continual.baselines.separate_networks import SeparateNetworks
from experiments.continual.baselines.sequential_training import SequentialTraining
from experiments.continual.baselines.stream_learners import HnetEntropy
from models.continual.generated_networks import HyperStreamConfig
from models.protocol import LearnerError

LENET = ComparisonSetting(
    "cl3", tasks=2, way=2, shape=(3, 8, 8), target="lenet", hidden=(8,), iterations=25, batch=16, lr=3e-3,
    precision="fp32",
)  # fmt: skip


def examples(task: int, n: int = 40) -> tuple[Tensor, Tensor]:
    """A bright half: of the first stream task left or right, of the second above or below."""
    y = torch.arange(n) % 2
    x = 0.1 * torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(task))
    halves = x if task else x.transpose(2, 3)
    halves[y == 0, :, :4] += 1
    halves[y == 1, :, 4:] += 1
    return x, y


@pytest.mark.parametrize("target", ["lenet", "resnet32"])
def test_a_target_is_one_vector_with_the_variances_it_asks_for(target: str) -> None:
    setting = replace(LENET, target=target)
    network = main_network(setting, setting.generator(0))
    assert isinstance(network, FlatTargetNetwork)
    assert isinstance(main_network(replace(LENET, target="mlp"), LENET.generator(0)), Network)
    size = max(network.body.shapes, key=lambda name: torch.Size(network.body.shapes[name]).numel())
    weight = network.body.named(network.flat[None, : network.body.body].detach())[size][0]
    assert_close(weight.var().item(), 2 / weight[0].numel(), rtol=0.1, atol=0)
    x = examples(0, 3)[0].flatten(1)
    assert network(x).shape == (3, setting.outputs)
    assert_close(network.copy()(x), network(x))
    network(x).sum().backward()
    assert network.grad is network.flat.grad
    assert network.grad.abs().sum() > 0


def test_fisher_is_the_mean_of_squared_gradients_of_single_examples() -> None:
    network = main_network(LENET, LENET.generator(0))
    x, y = examples(0, 5)[0].flatten(1), torch.tensor([0, 1, 1, 0, 1])
    expected = torch.zeros_like(network.grad)
    for one, label in zip(x, y, strict=True):
        network.grad.zero_()
        F.cross_entropy(network(one[None])[:, 2:4], label[None]).backward()
        expected += network.grad.square() / len(y)
    network.grad.zero_()
    assert_close(network.fisher(x, y, slice(2, 4)), expected)
    assert not network.grad.any()


@pytest.mark.parametrize(
    "method",
    [
        lambda: SequentialTraining(LENET, NoConfig()),
        lambda: Ewc(LENET, EwcConfig(strength=1)),
        lambda: ExperienceReplay(LENET, ReplayConfig(per_class=3)),
    ],
)
def test_the_newest_stream_task_is_learned(method: Callable[[], SequentialTraining]) -> None:
    found = method()
    for task in range(2):
        found.learn(task, *examples(task))
    x, y = examples(1)
    answer = found.predict(x, None)
    assert ((answer.label == y) & (answer.task == 1)).float().mean() > 0.9


def test_separate_networks_and_a_hypernetwork_keep_the_first() -> None:
    told = replace(LENET, scenario="cl1", iterations=40)
    config = HyperStreamConfig(chunk=2000, task_embedding=4, chunk_embedding=8, trunk=(8,), beta=0.1)
    config = HnetEntropy.with_budget(told, config)
    for found in (SeparateNetworks(told, NoConfig()), HnetEntropy(told, config)):
        for task in range(2):
            found.learn(task, *examples(task))
        for task in range(2):
            assert (found.predict(examples(task)[0], task).label == examples(task)[1]).float().mean() > 0.9


def test_a_target_of_pictures_refuses_other_inputs() -> None:
    with pytest.raises(LearnerError, match="'lenet' needs features"):
        SequentialTraining(replace(LENET, shape=(28, 28)), NoConfig())
