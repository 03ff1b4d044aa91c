"""Ways, shots, queries and tasks are as many as the classes of a data set allow, and what is smaller is said."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from experiments.fewshot.own_cells import OwnCell, foreign_draws, own_cells
from models.evaluation.episodic import Cell, Features


def named(counts: list[int], tasks: int = 200) -> tuple[list[tuple[int, ...]], list[str]]:
    cells, notes = own_cells(np.array(counts), tasks)
    return [(own.cell.way, own.cell.shot, own.cell.queries, own.tasks) for own in cells], notes


@pytest.mark.parametrize(
    ("classes", "cells"),
    [
        (3, [(3, 15, 200)]),
        (5, [(5, 15, 200)]),
        (12, [(5, 15, 200), (12, 15, 83)]),
        (62, [(5, 15, 200), (20, 15, 50), (62, 15, 16)]),
        (77, [(5, 15, 200), (20, 15, 50), (77, 12, 12)]),
        (400, [(5, 15, 200), (20, 15, 50), (150, 6, 10)]),
    ],
)
def test_large_classes_have_every_cell(classes: int, cells: list[tuple[int, int, int]]) -> None:
    found, notes = named([30] * classes)
    assert found == [(way, shot, queries, tasks) for shot in (1, 5, 10) for way, queries, tasks in cells]
    assert notes == []


def test_small_classes_lower_the_cells_and_it_is_said() -> None:
    assert named([12] * 5) == (
        [(5, 1, 11, 200), (5, 5, 7, 200), (5, 10, 2, 200)],
        [
            "1 shot: 11 instead of 15 queries a class, as the smallest class allows",
            "5 shots: 7 instead of 15 queries a class, as the smallest class allows",
            "10 shots: 2 instead of 15 queries a class, as the smallest class allows",
        ],
    )


def test_single_small_classes_are_left_out_instead() -> None:
    cells, notes = own_cells(np.array([40, 3, 40, 40]), 10)
    assert [own.classes for own in cells] == [(0, 2, 3)] * 3
    assert notes[0] == "1 shot: 1 of 4 classes with too few examples are left out"


def test_no_cell_is_left_of_single_examples() -> None:
    assert named([1, 1, 1]) == (
        [],
        [
            f"{n}: fewer than 2 classes have {m} examples, left out"
            for n, m in (("1 shot", 2), ("5 shots", 6), ("10 shots", 11))
        ],
    )


def test_foreign_queries_are_of_a_third_of_the_classes_that_is_no_part_of_the_task() -> None:
    members = [np.arange(20) + 20 * one for one in range(9)]
    features = Features(torch.arange(180.0)[:, None], members, np.zeros(9, dtype=np.int64))
    found = foreign_draws(OwnCell(Cell(8, 2, 5), 30, tuple(range(9))), features, 0)
    assert found is not None
    cell, drawn = found
    assert (cell.way, cell.foreign, len(drawn)) == (6, 30, 30)
    for classes, support, query in drawn:
        assert (support // 20 == classes.repeat(2)).all()
        assert (query[:30] // 20 == classes.repeat(5)).all()
        assert not set(query[30:] // 20) & set(classes)
        assert not set(support) & set(query)
    assert len({tuple(sorted(classes)) for classes, _, _ in drawn}) > 10, "others in each task"
    again = foreign_draws(OwnCell(Cell(8, 2, 5), 30, tuple(range(9))), features, 0)
    assert again is not None
    assert all((one[2] == other[2]).all() for one, other in zip(drawn, again[1], strict=True))
    few = Features(features.values, members[:2], np.zeros(2, dtype=np.int64))
    assert foreign_draws(OwnCell(Cell(2, 1, 5), 3, (0, 1)), few, 0) is None
