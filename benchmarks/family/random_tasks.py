"""Tasks of random images, and untrained learners on Conv-4, which suffice to measure costs."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from models.inputs import ImageInput
from models.protocol import Episodes, MetaLearner
from models.registry import LearnerConfig, build

WAY = 5


def learner_of(method: str, **hparams: object) -> MetaLearner:
    """Return an untrained learner. Raise `LearnerError` if the method does not run on Conv-4."""
    torch.manual_seed(0)
    config = LearnerConfig(
        code_version="0", method=method, hparams=hparams, encoder="conv4", input=ImageInput()
    )
    return build(config)


def pictures(*shape: int, seed: int = 0) -> Float[Tensor, "... 1 28 28"]:
    """Return random images."""
    return torch.rand(*shape, 1, 28, 28, generator=torch.Generator().manual_seed(seed))


def labels(tasks: int, each: int) -> Tensor:
    """Return labels class by class, [tasks, WAY * each]."""
    return torch.arange(WAY).repeat_interleave(each).expand(tasks, -1)


def episodes(tasks: int, shots: int, queries: int) -> Episodes:
    """Return episodes of random images."""
    support_mask = torch.ones(tasks, WAY * shots, dtype=torch.bool)
    query_mask = torch.ones(tasks, WAY * queries, dtype=torch.bool)
    return Episodes(
        pictures(tasks, WAY * shots),
        labels(tasks, shots),
        support_mask,
        pictures(tasks, WAY * queries, seed=1),
        labels(tasks, queries),
        query_mask,
        torch.full((tasks,), WAY),
        torch.zeros(tasks, dtype=torch.bool),
        torch.arange(tasks),
    )
