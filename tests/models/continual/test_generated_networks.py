"""Hyperparameters that need too much memory are refused before anything is allocated."""

from typing import Any

import pytest

from models.continual.generated_networks import Generated, HyperStreamConfig
from models.protocol import LearnerError

PICTURE = (1, 28, 28)


@pytest.mark.parametrize(
    ("hparams", "named"),
    [
        ({"hidden": (65_536, 65_536)}, "hidden"),
        ({"trunk": (65_536, 65_536)}, "trunk"),
        ({"hidden": (2_000, 2_000), "chunk": 1, "chunk_embedding": 512}, "chunk"),
        ({"target": "resnet32", "batch": 65_536}, "batch"),
        ({"outputs": 10_000, "hidden": (65_536,)}, "outputs"),
    ],
)
def test_more_than_memory_is_refused_and_named(hparams: dict[str, Any], named: str) -> None:
    with pytest.raises(LearnerError, match=rf"hyperparameters .*{named}.*: registering .* numbers"):
        Generated(PICTURE, HyperStreamConfig(**hparams))


@pytest.mark.parametrize(
    ("shape", "hparams"),
    [
        ((8_192,), {}),
        (PICTURE, {"hidden": (1_000, 1_000)}),
        ((3, 32, 32), {"target": "resnet32"}),
        ((3, 84, 84), {"target": "lenet"}),
    ],
)
def test_what_is_usual_is_not(shape: tuple[int, ...], hparams: dict[str, Any]) -> None:
    Generated(shape, HyperStreamConfig(**hparams))


def test_what_grows_with_stream_tasks_is_told_as_it_grows() -> None:
    """`stored` keeps a network of each; the default keeps what the trunk says of it."""
    stored, default = (
        Generated(PICTURE, HyperStreamConfig(hidden=(1_000, 1_000), regulariser=name))
        for name in ("stored", "gram")
    )
    default.check(rows=2, tasks=1_000)
    with pytest.raises(LearnerError, match="hidden"):
        stored.check(rows=2, tasks=1_000)
