"""The number of threads of a job."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from workers import job_runner


@pytest.mark.parametrize(
    ("quota", "count"), [("150000 100000", 1), ("50000 100000", 1), ("max 100000", None)]
)
def test_a_container_has_fewer_processors_than_its_machine(
    tmp_path: Path, quota: str, count: int | None
) -> None:
    file = tmp_path / "cpu.max"
    file.write_text(f"{quota}\n")
    assert job_runner.processors(file) == (count or len(os.sched_getaffinity(0)))


def test_half_of_the_processors_are_for_everything_else() -> None:
    count = job_runner.processors()
    assert job_runner.thread_limits(1)["OMP_NUM_THREADS"] == str(max(1, count // 2))
    assert job_runner.thread_limits(1_000)["OMP_NUM_THREADS"] == "1"
