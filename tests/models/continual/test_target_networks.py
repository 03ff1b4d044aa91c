"""TargetArchitecture networks: a batch of flat vectors is a batch of networks, each with its own answers."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from models.continual.target_networks import (
    LeNet,
    MLPTarget,
    ModuleTarget,
    ResNet32,
    TargetArchitecture,
    head,
    target,
)
from models.protocol import LearnerError

SHAPES = {"mlp": (7,), "lenet": (1, 12, 12), "resnet32": (3, 8, 8)}


@pytest.fixture(params=SHAPES)
def case(request: pytest.FixtureRequest) -> tuple[TargetArchitecture, tuple[int, ...]]:
    return target(request.param, SHAPES[request.param], (6, 5)), SHAPES[request.param]


def drawn(of: TargetArchitecture, tasks: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(tasks, of.body, generator=generator) * of.variance(0).sqrt()


@pytest.mark.parametrize("queries", [4, 9])
def test_networks_of_a_batch_answer_as_they_do_alone(
    case: tuple[TargetArchitecture, tuple[int, ...]], queries: int
) -> None:
    """Few queries in one pass, many network by network."""
    of, shape = case
    flat, x = drawn(of, 3), torch.rand(3, queries, *shape, generator=torch.Generator().manual_seed(1))
    together = of.features(flat, x)
    assert together.shape == (3, queries, of.hidden)
    for index in range(3):
        alone = of.features(flat[index : index + 1], x[index : index + 1])
        assert_close(together[index : index + 1], alone, atol=1e-4, rtol=1e-4)


def test_an_answer_does_not_depend_on_its_batch(case: tuple[TargetArchitecture, tuple[int, ...]]) -> None:
    of, shape = case
    flat, x = drawn(of, 1), torch.rand(1, 4, *shape, generator=torch.Generator().manual_seed(1))
    assert_close(of.features(flat, x)[:, :1], of.features(flat, x[:, :1]), atol=1e-5, rtol=1e-5)


def test_an_mlp_is_linear_layers_with_relu() -> None:
    of = MLPTarget((2, 3), (5, 4))
    flat, x = drawn(of, 2), torch.randn(2, 3, 2, 3)
    named = of.named(flat)
    hidden = F.relu(F.linear(x[1].flatten(1), named["0.weight"][1], named["0.bias"][1]))
    hidden = F.relu(F.linear(hidden, named["1.weight"][1], named["1.bias"][1]))
    assert_close(of.features(flat, x)[1], hidden)
    assert of.size(3) == (6 * 5 + 5) + (5 * 4 + 4) + 3 * 5


@pytest.mark.parametrize("tasks", [1, 2])
def test_a_head_has_a_row_for_each_class(tasks: int) -> None:
    rows, hidden = torch.randn(tasks, 3, 5), torch.randn(tasks, 6, 4)
    expected = torch.einsum("tqh,twh->tqw", hidden, rows[..., :-1]) + rows[:, None, :, -1]
    assert_close(head(rows, hidden), expected)


def test_any_module_is_a_target() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    of = ModuleTarget(module, hidden=2)
    flat = torch.cat([value.detach().flatten() for value in module.parameters()])
    x = torch.randn(5, 3)
    assert_close(of.features(flat[None], x[None])[0], module(x).detach())


def test_running_statistics_are_refused() -> None:
    with pytest.raises(LearnerError, match="buffers"):
        ModuleTarget(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), hidden=4)


def test_pictures_are_asked_for() -> None:
    with pytest.raises(LearnerError, match="'resnet32'"):
        target("resnet32", (64,), (10,))


def test_sizes_of_the_convolutional_networks() -> None:
    convolutions = [m for m in ResNet32(3).modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == 31
    assert sum(p.numel() for p in ResNet32(3).parameters()) == 432 + 10 * 2_304 + 87_552 + 350_208
    assert sum(p.numel() for p in LeNet((1, 28, 28), (500,)).parameters()) == 520 + 25_050 + 2450 * 500 + 500


def test_initial_variance_keeps_the_scale_of_activations() -> None:
    of = MLPTarget((200,), (200, 200))
    x = torch.randn(1, 100, 200, generator=torch.Generator().manual_seed(2))
    assert 0.5 < of.features(drawn(of, 1), x).square().mean() / 1.0 < 2
