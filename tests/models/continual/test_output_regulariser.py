"""The output regulariser: three ways to the same number and gradient, at the place Adam would go to."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from models.continual.chunked_hypernetwork import ChunkedHypernetwork
from models.continual.output_regulariser import (
    DirectRegulariser,
    GramRegulariser,
    OutputSnapshot,
    OwnRowsRegulariser,
    SampledRegulariser,
)
from models.continual.two_step_training import look_ahead

SIZE, TASKS = 45, 3


def net(widths: tuple[int, ...] = (6, 5)) -> ChunkedHypernetwork:
    return ChunkedHypernetwork(chunk=10, task_dim=4, chunk_dim=3, widths=widths, activation="elu")


def moved(widths: tuple[int, ...] = (6, 5), size: int = SIZE) -> tuple[dict[str, Tensor], OutputSnapshot]:
    """Parameters a little away from a snapshot that must be kept."""
    generator = torch.Generator().manual_seed(0)
    snapshot = net(widths).initial(size, generator)
    embeddings = torch.randn(TASKS, 4, generator=generator)
    params = {
        name: value + 0.01 * torch.randn(value.shape, generator=generator) for name, value in snapshot.items()
    }
    return params, OutputSnapshot(snapshot, embeddings, size)


def gradient(
    params: dict[str, Tensor], kept: OutputSnapshot, widths: tuple[int, ...]
) -> tuple[Tensor, dict[str, Tensor]]:
    """The equation as it is written."""
    leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
    now = net(widths).generate(leaves, kept.embeddings, kept.size)
    then = net(widths).generate(kept.params, kept.embeddings, kept.size)
    value = (now - then).square().sum() / len(kept.embeddings)
    value.backward()
    return value.detach(), {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}


@pytest.mark.parametrize("widths", [(6, 5), (6,), ()])
@pytest.mark.parametrize("size", [45, 50, 10, 7])
@pytest.mark.parametrize("kind", [DirectRegulariser, GramRegulariser])
def test_value_and_gradient_are_those_of_the_equation(
    kind: type[DirectRegulariser] | type[GramRegulariser], size: int, widths: tuple[int, ...]
) -> None:
    params, kept = moved(widths, size)
    value, grads = gradient(params, kept, widths)
    found, of = kind(net(widths), kept).gradient(params)
    assert_close(found, value, rtol=1e-4, atol=0)
    for name, grad in grads.items():
        assert (of[name] - grad).norm() <= 1e-4 * grad.norm()


def test_chunks_that_came_after_the_snapshot_are_free() -> None:
    params, kept = moved()
    grown = net().grown(params, SIZE + 20, torch.Generator().manual_seed(1))
    assert len(grown["chunks"]) == len(params["chunks"]) + 2
    for kind in (DirectRegulariser, GramRegulariser):
        value, grads = kind(net(), kept).gradient(params)
        more, of = kind(net(), kept).gradient(grown)
        assert_close(more, value)
        assert of["chunks"].shape == grown["chunks"].shape
        assert_close(of["chunks"][: len(params["chunks"])], grads["chunks"])
        assert not of["chunks"][len(params["chunks"]) :].any()


def test_the_sum_is_the_mean_times_the_tasks() -> None:
    params, kept = moved()
    mean, sum_ = (GramRegulariser(net(), kept, weighing).gradient(params)[0] for weighing in ("mean", "sum"))
    assert_close(sum_, TASKS * mean)


def test_kept_targets_are_those_of_the_snapshot() -> None:
    params, kept = moved()
    assert_close(
        DirectRegulariser(net(), kept, stored=True).gradient(params)[0],
        DirectRegulariser(net(), kept).gradient(params)[0],
    )


def test_a_random_subset_is_right_on_average() -> None:
    params, kept = moved()
    some = DirectRegulariser(net(), kept, subset=1, generator=torch.Generator().manual_seed(0))
    drawn = torch.stack([some.gradient(params)[0] for _ in range(200)])
    assert_close(drawn.mean(), DirectRegulariser(net(), kept).gradient(params)[0], rtol=0.1, atol=0)


@pytest.mark.parametrize("steps_before", [0, 1])
def test_sampled_pairs_are_right_on_average(steps_before: int) -> None:
    params, kept = moved()
    sampled = SampledRegulariser(net(), kept, pairs=600, generator=torch.Generator().manual_seed(0))
    for _ in range(steps_before):
        sampled.gradient(params)
    value, grads = DirectRegulariser(net(), kept).gradient(params)
    found, of = sampled.gradient(params)
    assert_close(found, value, rtol=0.1, atol=0)
    assert (of["out.weight"] - grads["out.weight"]).norm() < 0.25 * grads["out.weight"].norm()


def test_of_heads_only_own_rows_are_kept() -> None:
    """Bodies are the first 30 numbers; task j owns numbers 30 + 4j to 33 + 4j, the last one a number less."""
    params, kept = moved()
    numbers = 30 + 4 * torch.arange(TASKS)[:, None] + torch.arange(4)
    mask = torch.ones(TASKS, 4, dtype=torch.bool)
    mask[-1, -1] = False
    bodies = OutputSnapshot(kept.params, kept.embeddings, 30)
    found, of = OwnRowsRegulariser(GramRegulariser(net(), bodies), numbers, mask).gradient(params)
    counted = torch.zeros(TASKS, SIZE)
    counted[:, :30] = 1
    counted.scatter_(1, numbers, mask.float())
    leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
    change = net().generate(leaves, kept.embeddings, SIZE) - net().generate(
        kept.params, kept.embeddings, SIZE
    )
    value = (change.square() * counted).sum() / TASKS
    value.backward()
    assert_close(found, value.detach(), rtol=1e-4, atol=0)
    for name, leaf in leaves.items():
        assert leaf.grad is not None
        assert (of[name] - leaf.grad).norm() <= 1e-4 * leaf.grad.norm()


@pytest.mark.parametrize("fused", [True, False])
def test_the_look_ahead_is_where_adam_then_goes(fused: bool) -> None:
    torch.manual_seed(0)
    param = torch.randn(20, requires_grad=True)
    optimiser = torch.optim.Adam([param], lr=0.01, fused=fused)
    for _ in range(4):
        optimiser.zero_grad()
        param.square().sum().backward()
        before = param.detach().clone()
        ahead = look_ahead(optimiser)[param]
        assert param.detach().equal(before)
        optimiser.step()
        assert ahead.equal(param.detach())


def test_pitfall_12_the_change_ahead_is_detached() -> None:
    param = torch.randn(5, requires_grad=True)
    optimiser = torch.optim.Adam([param])
    param.square().sum().backward()
    assert not look_ahead(optimiser)[param].requires_grad
