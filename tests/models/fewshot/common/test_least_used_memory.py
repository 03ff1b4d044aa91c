"""The memory against numbers worked out by hand: two heads, four slots, rows of two numbers."""

import torch
from torch import Tensor
from torch.testing import assert_close

from models.fewshot.common.least_used_memory import (
    Access,
    Memory,
    access,
    addressed,
    least_used,
    write_weights,
    written,
)


def rows(*values: list[float]) -> Tensor:
    return torch.tensor([values])


def test_each_head_takes_a_least_used_slot_of_its_own() -> None:
    free = least_used(torch.tensor([[0.9, 0.1, 0.5, 0.2]]), 2)
    assert_close(free, rows([0, 1, 0, 0], [0, 0, 0, 1]).float())


def test_of_slots_used_equally_the_first_is_taken() -> None:
    free = least_used(torch.tensor([[1.0, 0.0, 0.0, 0.0]]), 2)
    assert_close(free, rows([0, 1, 0, 0], [0, 0, 1, 0]).float())


def test_writing_goes_between_what_was_read_and_what_is_free() -> None:
    """σ(α) = ¼: w_w = ¼ w_r(t−1) + ¾ w_lu."""
    read, free = rows([0.8, 0.2, 0.0, 0.0]), rows([0.0, 0.0, 0.0, 1.0])
    assert_close(write_weights(read, free, torch.tensor([[0.25]])), rows([0.2, 0.05, 0.0, 0.75]))


def test_the_least_used_slot_is_emptied_before_anything_is_added() -> None:
    slots = rows([1.0, 1.0], [2.0, 2.0], [3.0, 3.0], [4.0, 4.0])
    weights = rows([0.5, 0.0, 0.0, 0.5], [0.0, 1.0, 0.0, 0.0])
    value = rows([10.0, 0.0], [0.0, 1.0])
    free = rows([0.0, 0.0, 0.0, 1.0], [0.0, 1.0, 0.0, 0.0])
    expected = rows([6.0, 1.0], [0.0, 1.0], [3.0, 3.0], [5.0, 0.0])
    assert_close(written(slots, weights, value, free), expected)


def test_reading_weights_are_a_softmax_of_cosines() -> None:
    """Cosines of (3, 4) with the rows: 1, 0.6, −1, and 0 with an empty one."""
    slots, key = rows([30.0, 40.0], [5.0, 0.0], [-6.0, -8.0], [0.0, 0.0]), rows([3.0, 4.0])
    expected = (2 * rows([1.0, 0.6, -1.0, 0.0])).softmax(-1)
    assert_close(addressed(slots, key, torch.tensor([[2.0]])), expected, atol=1e-4, rtol=0)


def test_a_step_writes_then_reads_and_then_ages_the_usage() -> None:
    memory = Memory(
        slots=rows([1.0, 0.0], [0.0, 1.0], [1.0, 1.0]),
        usage=torch.tensor([[0.5, 0.2, 0.9]]),
        read=rows([0.0, 0.0, 1.0]),
        recalled=rows([0.0, 0.0]),
    )
    asked = Access(rows([2.0, 0.0]), rows([0.0, 4.0]), torch.tensor([[1.5]]), torch.tensor([[0.5]]))
    after = access(memory, asked, decay=0.9)
    # Slot 1 is least used: half of the vector goes there, half to slot 2, which was read.
    assert_close(after.slots, rows([1.0, 0.0], [0.0, 2.0], [1.0, 3.0]))
    read = (1.5 * rows([1.0, 0.0, 10**-0.5])).softmax(-1)
    assert_close(after.read, read, atol=1e-4, rtol=0)
    assert_close(after.recalled, after.read @ after.slots)
    assert_close(after.usage, 0.9 * memory.usage + after.read[:, 0] + torch.tensor([[0.0, 0.5, 0.5]]))


def test_an_empty_memory_has_one_used_slot_and_nothing_to_recall() -> None:
    memory = Memory.empty(2, heads=3, slots=5, width=4, like=torch.zeros(1))
    assert_close(memory.usage, torch.tensor([[1.0, 0, 0, 0, 0]]).expand(2, -1))
    assert memory.read.shape == (2, 3, 5)
    assert not memory.recalled.any()
    assert (memory.slots == 1e-6).all()


def test_gradients_reach_what_was_written_long_ago() -> None:
    generator = torch.Generator().manual_seed(0)
    memory = Memory.empty(1, heads=2, slots=4, width=3, like=torch.zeros(1))
    first = torch.randn(1, 2, 3, generator=generator).requires_grad_()
    value = first
    for _ in range(3):
        key = torch.randn(1, 2, 3, generator=generator)
        memory = access(memory, Access(key, value, torch.ones(1, 2), torch.full((1, 2), 0.5)), 0.99)
        value = torch.randn(1, 2, 3, generator=generator)
    memory.recalled.sum().backward()
    assert first.grad is not None
    assert first.grad.isfinite().all()
    assert first.grad.any()
