"""Ridge on running sums: against plain least squares, and each sum as removable as it was added."""

from itertools import permutations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from models.continual.incremental_ridge import Moments, Precision, Solution, moments, solve, sums, without
from models.protocol import LearnerError

DIM, WAYS = 12, (2, 3, 2)


def examples(task: int, n: int = 40) -> tuple[Tensor, Tensor]:
    drawn = torch.Generator().manual_seed(task)
    y = torch.arange(n) % WAYS[task]
    means = torch.randn(WAYS[task], DIM, generator=drawn)
    return 3 + means[y] + torch.randn(n, DIM, generator=drawn), y


def part(task: int) -> dict[str, Tensor]:
    return sums(*examples(task), WAYS[task])


def of_all(parts: tuple[int, ...]) -> Moments:
    return moments(part(task) for task in parts)


def by_least_squares(tasks: tuple[int, ...], penalty: float) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, bias, and the features: from the examples themselves."""
    x = torch.cat([examples(task)[0] for task in tasks]).double()
    first = [sum(WAYS[other] for other in tasks[:index]) for index in range(len(tasks))]
    y = torch.cat([examples(task)[1] + offset for task, offset in zip(tasks, first, strict=True)])
    hot = F.one_hot(y).double()
    centred = x - x.mean(0)
    scale = centred.square().sum(0).mean()
    longer = torch.cat((centred, (penalty * scale).sqrt() * torch.eye(DIM).double()))
    target = torch.cat((hot - hot.mean(0), torch.zeros(DIM, hot.shape[1]).double()))
    rows = torch.linalg.lstsq(longer, target).solution.T
    return rows, hot.mean(0) - rows @ x.mean(0), x


def test_the_solution_is_that_of_least_squares_on_all_examples() -> None:
    solution = solve(of_all((0, 1, 2)), 1e-2)
    rows, bias, _ = by_least_squares((0, 1, 2), 1e-2)
    assert_close(solution.rows, rows, atol=1e-6, rtol=1e-5)
    assert_close(solution.bias, bias, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("out", [0, 1, 2])
def test_what_is_subtracted_was_never_there(out: int) -> None:
    tasks = tuple(task for task in range(3) if task != out)
    less = solve(without(of_all((0, 1, 2)), part(out), sum(WAYS[:out])), 1e-2)
    rows, bias, _ = by_least_squares(tasks, 1e-2)
    assert_close(less.rows, rows, atol=1e-6, rtol=1e-5)
    assert_close(less.bias, bias, atol=1e-6, rtol=1e-5)


def test_sums_know_no_order() -> None:
    """Neither the order of examples nor that of tasks matters, except for the last bits and the order of rows."""
    x, y = examples(1)
    turned = sums(x.flip(0), y.flip(0), WAYS[1])
    assert all(part(1)[name].allclose(turned[name], rtol=1e-5) for name in turned)
    first = [solve(of_all(order), 1e-2).rows[: WAYS[order[0]]] for order in permutations(range(3))]
    assert_close(first[0], first[1], atol=1e-9, rtol=0)


def test_a_left_out_example_is_judged_by_a_solution_without_it() -> None:
    x, y = examples(1)
    solution = solve(moments([sums(x, y, 3)]), 1e-3)
    scores, leverage = solution.left_out(x, y)
    # λ is relative to the scatter, which one example less makes a little smaller.
    kept = torch.arange(len(y)) != 5
    absolute = 1e-3 * float(moments([sums(x, y, 3)]).scatter.diagonal().mean())
    fewer = moments([sums(x[kept], y[kept], 3)])
    other = solve(fewer, absolute / float(fewer.scatter.diagonal().mean()))
    assert_close(scores[5], other.scores(x[5:6])[0], atol=1e-5, rtol=1e-4)
    assert_close(leverage[5], other.leverage(x[5:6])[0], atol=0.05, rtol=0.05)


def test_the_penalty_grows_with_noise() -> None:
    def chosen(noise: float) -> float:
        drawn = torch.Generator().manual_seed(0)
        x = torch.randn(200, 30, generator=drawn)
        y = (x[:, 0] + noise * torch.randn(200, generator=drawn) > 0).long()
        return solve(moments([sums(x, y, 2)])).penalty

    assert chosen(0.0) < chosen(20.0)


def test_whole_numbers_halve_what_is_kept_and_stays_near() -> None:
    x, y = examples(1)
    small = sums(x, y, 3, "int16")
    assert small["scatter"].dtype == torch.int16
    near = solve(moments([small]), 1e-2)
    assert_close(near.rows, solve(moments([part(1)]), 1e-2).rows, atol=1e-4, rtol=0)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_features_of_any_size_have_a_solution(scale: float) -> None:
    """Among them one that never moves, and more features than examples."""
    x, y = examples(0, n=6)
    x = torch.cat((x, torch.ones(6, 1)), 1) * scale
    solution = solve(moments([sums(x, y, 2)]))
    assert isinstance(solution, Solution)
    assert (solution.scores(x).argmax(1) == y).all()


@pytest.mark.parametrize("precision", ["float32", "int16"])
def test_features_that_are_not_finite_are_refused(precision: Precision) -> None:
    x, y = examples(0)
    x[3, 3] = torch.inf
    with pytest.raises(LearnerError, match="not finite"):
        solve(moments([sums(x, y, 2, precision)]))


def test_no_sums_have_no_solution() -> None:
    with pytest.raises(LearnerError):
        moments([])
