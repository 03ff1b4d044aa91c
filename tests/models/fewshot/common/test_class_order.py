"""Pitfalls 4 and 5: the order of classes is part of the input, and so is their number."""

import pytest
import torch

from models.fewshot.common.class_order import refuse_other_ways, turns
from models.protocol import Support, UnsupportedSupportError

KEYS = torch.tensor([[30, -10, 20]])
"""In rising order: class 1, class 2, class 0."""


def test_fewer_orders_are_the_first_turns() -> None:
    assert turns(KEYS, 2).tolist() == [[[1, 2, 0], [0, 1, 2]]]


def test_every_class_stands_once_in_every_place() -> None:
    found = turns(torch.randint(-1000, 1000, (4, 6)), 6)
    for dimension in (1, 2):
        assert found.sort(dimension).values.diff(dim=dimension).eq(1).all()


@pytest.mark.parametrize("way", [2, 4])
def test_another_way_is_refused(way: int) -> None:
    with pytest.raises(UnsupportedSupportError, match="3 classes"):
        refuse_other_ways(Support.of(torch.randn(1, way, 6), torch.arange(way)[None]), 3)
