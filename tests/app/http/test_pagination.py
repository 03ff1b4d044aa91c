"""Cursors are opaque and come back whole."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.ids import is_id, new_id
from app.http.pagination import Cursor
from app.http.problems import ProblemError


def test_round_trip() -> None:
    cursor = Cursor(new_id("task"))
    assert Cursor.decode(cursor.encode(), "task") == cursor
    with pytest.raises(ProblemError):
        Cursor.decode(cursor.encode(), "job")


@given(st.text())
def test_anything_else_is_a_problem(text: str) -> None:
    with pytest.raises(ProblemError):
        Cursor.decode(text, "task")


def test_ids_sort_by_time() -> None:
    ids = [new_id("task") for _ in range(200)]
    assert len(set(ids)) == 200
    assert all(is_id(id, "task") and not is_id(id, "job") for id in ids)
    assert [id[:15] for id in ids] == sorted(id[:15] for id in ids)
