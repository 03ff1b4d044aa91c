"""Checks of a labelled set before its file is read."""

from __future__ import annotations

import pytest

from app.http.problems import ProblemError
from app.streams.registrations import VALUES_MAX, check_size
from models.continual.stream_config import StreamConfig
from models.inputs import PhotoInput, VectorInput


@pytest.mark.parametrize(
    ("config", "one"),
    [
        (StreamConfig(input=PhotoInput(size=32), shape=(3, 32, 32)), 3 * 32 * 32),
        (StreamConfig(input=VectorInput(dim=4), shape=(4,)), 4),
        (StreamConfig(input=PhotoInput(size=32), shape=(64_000,), encoder="e", encoder_digest="d"), 64_000),
    ],
)
def test_a_set_too_large_for_a_worker(config: StreamConfig, one: int) -> None:
    most = VALUES_MAX // one
    check_size(config, most)
    with pytest.raises(ProblemError) as caught:
        check_size(config, most + 1)
    (fault,) = caught.value.faults
    assert (caught.value.status, fault.pointer, fault.limit) == (413, "/dataset", most)
