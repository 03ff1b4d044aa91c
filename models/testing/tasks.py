"""Small tasks drawn from a generator, and their collation into ragged, padded batches.

Padding is filled with junk, so that a learner that ignores a mask is found out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from models.noise import label_key
from models.protocol import FOREIGN, Episodes, Servable, Support


@dataclass(frozen=True)
class Task:
    """One task without padding; `labels` is empty if it has no classes."""

    support_x: Tensor
    support_y: Tensor | None
    query_x: Tensor
    query_y: Tensor
    labels: tuple[str, ...] = ()
    seed: int = 0

    @property
    def class_key(self) -> Tensor:
        return torch.tensor([label_key(label) for label in self.labels], dtype=torch.long)

    def ordered(self, order: Tensor) -> Task:
        """Return the task with its support set in another order, or a part of it."""
        y = None if self.support_y is None else self.support_y[order]
        return replace(self, support_x=self.support_x[order], support_y=y)

    def relabelled(self, permutation: Tensor) -> Task:
        """Return the task with class c as class `permutation[c]`; each keeps its label and examples."""
        assert self.support_y is not None
        inverse = permutation.argsort().tolist()
        labels = tuple(self.labels[index] for index in inverse)
        return replace(self, support_y=permutation[self.support_y], labels=labels)


def pad(rows: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Return [tasks, longest, ...] with junk in the padding, and the mask of the real entries."""
    padded = pad_sequence(rows, batch_first=True)
    lengths = torch.tensor([len(row) for row in rows])
    mask = torch.arange(padded.shape[1]) < lengths[:, None]
    junk = torch.randn(padded.shape, generator=torch.Generator().manual_seed(1))
    shape = (*mask.shape, *[1] * (padded.ndim - 2))
    found: Tensor = torch.where(
        mask.view(shape), padded, junk.to(padded.dtype) if padded.is_floating_point() else 0
    )
    return found, mask


def support_of(learner: Servable, tasks: list[Task]) -> Support:
    """Embed the support sets of some tasks as one batch."""
    flat = learner.embed(torch.cat([task.support_x for task in tasks]))
    features, mask = pad(list(flat.split([len(task.support_x) for task in tasks])))
    keys = pad_sequence([task.class_key for task in tasks], batch_first=True)
    return Support(
        features=features,
        targets=targets_of(tasks),
        mask=mask,
        n_way=torch.tensor([len(task.labels) for task in tasks]),
        class_key=keys,
        seed=torch.tensor([task.seed for task in tasks]),
    )


def queries_of(learner: Servable, tasks: list[Task]) -> Tensor:
    """Embed the queries of some tasks as one batch."""
    flat = learner.embed(torch.cat([task.query_x for task in tasks]))
    return pad(list(flat.split([len(task.query_x) for task in tasks])))[0]


def targets_of(tasks: list[Task]) -> Tensor | None:
    """Return the support targets of some tasks as one batch, None if they have none."""
    targets = [task.support_y for task in tasks if task.support_y is not None]
    return pad(targets)[0] if targets else None


def episodes_of(tasks: list[Task]) -> Episodes:
    """Return some tasks as a batch of training."""
    support_x, support_mask = pad([task.support_x for task in tasks])
    query_x, query_mask = pad([task.query_x for task in tasks])
    return Episodes(
        support_x=support_x,
        support_y=targets_of(tasks),
        support_mask=support_mask,
        query_x=query_x,
        query_y=pad([task.query_y for task in tasks])[0],
        query_mask=query_mask,
        n_way=torch.tensor([len(task.labels) for task in tasks]),
        unseen=torch.zeros(len(tasks), dtype=torch.bool),
        seed=torch.tensor([task.seed for task in tasks]),
    )


def _whole(rng: torch.Generator, low: int, high: int) -> int:
    return int(torch.randint(low, high + 1, (), generator=rng))


def fixed(way: int, draw: Callable[..., Task]) -> Callable[[torch.Generator], Task]:
    """Return a source of tasks of `way` classes, for a learner that takes no other number."""
    return lambda rng: draw(rng, (way, way))


def _way_and_foreign(rng: torch.Generator, ways: tuple[int, int]) -> int:
    return _whole(rng, *ways) + 1


def _classes(rng: torch.Generator, means: Tensor, examples: list[Tensor], shots: list[int]) -> Task:
    """Return a task with its support in random order; the queries of the last class are foreign."""
    way = len(means) - 1
    support_y = torch.arange(way).repeat_interleave(torch.tensor(shots[:way]))
    order = torch.randperm(len(support_y), generator=rng)
    query_y = torch.cat(
        [torch.full((len(e) - shot,), c) for c, (e, shot) in enumerate(zip(examples, shots, strict=True))]
    )
    return Task(
        support_x=torch.cat([e[:shot] for e, shot in zip(examples[:way], shots, strict=False)])[order],
        support_y=support_y[order],
        query_x=torch.cat([e[shot:] for e, shot in zip(examples, shots, strict=True)]),
        query_y=torch.where(query_y == way, FOREIGN, query_y),
        labels=tuple(f"class {_whole(rng, 0, 2**40)}" for _ in range(way)),
        seed=_whole(rng, 0, 2**40),
    )


def vectors(rng: torch.Generator, ways: tuple[int, int] = (2, 5)) -> Task:
    """Draw 2 to 5 Gaussian classes in 8 dimensions, 1 to 4 shots."""
    means = 1.5 * torch.randn(_way_and_foreign(rng, ways), 8, generator=rng)
    shots = [_whole(rng, 1, 4) for _ in means]
    examples = [
        mean + torch.randn(shot + 3, 8, generator=rng) for mean, shot in zip(means, shots, strict=True)
    ]
    return _classes(rng, means, examples, shots)


def axes(rng: torch.Generator, ways: tuple[int, int] = (2, 5)) -> Task:
    """Draw 2 to 5 classes on axes of their own in 8 dimensions, hardly noisy, 1 to 4 shots: only recall is hard."""
    means = 2.0 * torch.eye(8)[torch.randperm(8, generator=rng)[: _way_and_foreign(rng, ways)]]
    shots = [_whole(rng, 1, 4) for _ in means]
    examples = [
        mean + 0.1 * torch.randn(shot + 3, 8, generator=rng) for mean, shot in zip(means, shots, strict=True)
    ]
    return _classes(rng, means, examples, shots)


def glyphs(rng: torch.Generator, ways: tuple[int, int] = (2, 4)) -> Task:
    """Draw 2 to 4 classes of blots on 28×28, each example shifted and noisy, 1 to 3 shots."""
    coarse = torch.rand(_way_and_foreign(rng, ways), 1, 5, 5, generator=rng)
    means = (F.interpolate(coarse, size=(28, 28), mode="bilinear") > 0.5).float()
    shots = [_whole(rng, 1, 3) for _ in means]

    def example(mean: Tensor) -> Tensor:
        shifted = mean.roll((_whole(rng, -2, 2), _whole(rng, -2, 2)), (1, 2))
        return (shifted + 0.2 * torch.randn(1, 28, 28, generator=rng)).clamp(0, 1)

    examples = [
        torch.stack([example(mean) for _ in range(shot + 3)]) for mean, shot in zip(means, shots, strict=True)
    ]
    return _classes(rng, means, examples, shots)


def photos(rng: torch.Generator, ways: tuple[int, int] = (2, 4)) -> Task:
    """Draw 2 to 4 classes of two-coloured pictures on 3×32×32, noisy, 1 to 3 shots."""
    coarse = torch.rand(_way_and_foreign(rng, ways), 3, 2, 2, generator=rng)
    means = F.interpolate(coarse, size=(32, 32), mode="nearest")
    shots = [_whole(rng, 1, 3) for _ in means]
    examples = [
        (mean + 0.2 * torch.randn(shot + 3, 3, 32, 32, generator=rng)).clamp(0, 1)
        for mean, shot in zip(means, shots, strict=True)
    ]
    return _classes(rng, means, examples, shots)


def curves(rng: torch.Generator) -> Task:
    """Draw a sine of random phase and height, seen at 3 to 8 places."""
    height, phase = 0.5 + torch.rand(2, generator=rng) * torch.tensor([1.5, 3.0])
    x = torch.rand(_whole(rng, 13, 18), 1, generator=rng) * 4 - 2
    y = height * torch.sin(2 * x + phase)
    return Task(x[10:], y[10:], x[:10], y[:10])
