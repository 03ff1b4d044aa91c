"""Sampling of training tasks: way and shot from ranges, uneven shots, foreign queries, within one domain or across.

Every draw is keyed by (seed, step), so that a resumed training sees the tasks it would have seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from models.augmentation import Augmentation
from models.data.dataset import ClassDataset, DatasetError
from models.inputs.photo import photo
from models.protocol import FOREIGN, Episodes, Span

_ANY_WAY = Span(2)


class EpisodeConfig(BaseModel):
    """Ranges of drawn tasks, all closed. Way and shot are drawn log-uniformly: small tasks are as common as large."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_way: int = Field(default=5, ge=2)
    max_way: int = Field(default=60, ge=2)
    min_shot: int = Field(default=1, ge=1)
    max_shot: int = Field(default=5, ge=1)
    queries: int = Field(default=5, ge=1)
    """Queries per class of the task."""
    uneven: bool = True
    """Let the classes of a task differ in shots."""
    foreign: float = Field(default=0.1, ge=0, lt=1)
    """Share of queries whose class is not in the support set."""
    within_domain: float = Field(default=0.5, ge=0, le=1)
    """Share of tasks drawn from one domain (alphabet)."""
    unseen: float = Field(default=0.0, ge=0, le=1)
    """Share of tasks drawn from the classes that the encoder is not trained on."""
    examples_per_step: int = Field(default=300, ge=2)
    """A step holds as many tasks as fit."""


@dataclass(frozen=True)
class TaskIndex:
    """One task as positions in a data set. Targets of foreign queries are `FOREIGN`."""

    support: np.ndarray
    support_y: np.ndarray
    query: np.ndarray
    query_y: np.ndarray
    unseen: bool = False


class EpisodeSampler:
    """Source of the tasks of a step. `unseen_classes` never appear in tasks that train the encoder.

    `ways` are those that the learner takes: a domain of fewer classes is not drawn from.
    """

    def __init__(
        self,
        dataset: ClassDataset,
        config: EpisodeConfig,
        seed: int,
        unseen_classes: frozenset[int] = frozenset(),
        ways: Span = _ANY_WAY,
    ) -> None:
        self.dataset = dataset
        self.config = config
        self.seed = seed
        self._members = [member.numpy() for member in dataset.members()]
        self._largest = min(config.max_shot, min(map(len, self._members)) - config.queries)
        if self._largest < config.min_shot:
            raise DatasetError(
                f"{dataset.source}: its smallest class has {min(map(len, self._members))} examples, too few for "
                f"{config.min_shot} shots and {config.queries} queries"
            )
        domains = dataset.domains.numpy()
        every = np.arange(len(self._members))
        self._pools = {
            unseen: _Pool(every[[(c in unseen_classes) == unseen for c in every]], domains, ways.low)
            for unseen in ((False, True) if unseen_classes else (False,))
        }

    def step(self, step: int) -> list[TaskIndex]:
        rng = np.random.default_rng((self.seed, step))
        tasks: list[TaskIndex] = []
        room = self.config.examples_per_step
        while not tasks or room > 0:
            task = self._task(rng, room)
            tasks.append(task)
            room -= len(task.support) + len(task.query)
        return tasks

    def _task(self, rng: np.random.Generator, room: int) -> TaskIndex:
        config = self.config
        unseen = True in self._pools and rng.random() < config.unseen
        pool = self._pools[unseen]
        candidates = pool.one_domain(rng) if rng.random() < config.within_domain else pool.classes
        most = min(config.max_way, len(candidates) - (config.foreign > 0), max(config.min_way, room // 4))
        way = _log_uniform(rng, min(config.min_way, most), most)
        shot = _log_uniform(rng, config.min_shot, self._largest)
        n_foreign = round(way * config.queries * config.foreign / (1 - config.foreign))
        drawn = rng.permutation(candidates)
        support, support_y, query, query_y = [], [], [], []
        for row, label in enumerate(drawn[:way]):
            shots = _log_uniform(rng, config.min_shot, self._largest) if config.uneven else shot
            picked = rng.choice(self._members[label], shots + config.queries, replace=False)
            support.append(picked[:shots])
            support_y.append(np.full(shots, row))
            query.append(picked[shots:])
            query_y.append(np.full(config.queries, row))
        strangers = drawn[way : way + max(1, n_foreign)]
        for label in rng.choice(strangers, n_foreign) if n_foreign else ():
            query.append(rng.choice(self._members[label], 1))
            query_y.append(np.full(1, FOREIGN))
        return TaskIndex(
            np.concatenate(support),
            np.concatenate(support_y),
            np.concatenate(query),
            np.concatenate(query_y),
            unseen,
        )

    def episodes(self, step: int, augmentation: Augmentation | None) -> Episodes:
        """Return the tasks of a step with their inputs, augmented if an augmentation is given."""
        tasks = self.step(step)
        generator = torch.Generator().manual_seed(hash((self.seed, step)) % 2**63)
        return collate(self.dataset, tasks, self.seed * 1_000_003 + step, augmentation, generator)


class _Pool:
    """Classes by domain. A pool has more classes than the smallest task: one may be foreign."""

    def __init__(self, classes: np.ndarray, domains: np.ndarray, smallest: int) -> None:
        if len(classes) <= smallest:
            raise DatasetError(
                f"{len(classes)} classes are too few to draw tasks of {smallest} and a foreign class from"
            )
        self.classes = classes
        groups = [classes[domains[classes] == domain] for domain in np.unique(domains[classes])]
        self._groups = [group for group in groups if len(group) > smallest] or [classes]

    def one_domain(self, rng: np.random.Generator) -> np.ndarray:
        group: np.ndarray = self._groups[rng.integers(len(self._groups))]
        return group


def _log_uniform(rng: np.random.Generator, low: int, high: int) -> int:
    if high <= low:
        return low
    return min(high, int(np.exp(rng.uniform(np.log(low), np.log(high + 1)))))


def collate(
    dataset: ClassDataset,
    tasks: list[TaskIndex],
    seed: int,
    augmentation: Augmentation | None = None,
    generator: torch.Generator | None = None,
) -> Episodes:
    """Pad tasks to one batch and gather their inputs."""
    support, support_mask = _pad([task.support for task in tasks])
    query, query_mask = _pad([task.query for task in tasks])
    index = torch.cat((support[support_mask], query[query_mask]))
    owner = torch.cat((same_task(support_mask), same_task(query_mask)))
    inputs = prepared(dataset.inputs[index], owner, augmentation, generator)
    n_support = int(support_mask.sum())
    return Episodes(
        support_x=_scatter(inputs[:n_support], support_mask),
        support_y=_pad([task.support_y for task in tasks])[0],
        support_mask=support_mask,
        query_x=_scatter(inputs[n_support:], query_mask),
        query_y=_pad([task.query_y for task in tasks])[0],
        query_mask=query_mask,
        n_way=torch.tensor([task.support_y.max() + 1 for task in tasks]),
        unseen=torch.tensor([task.unseen for task in tasks]),
        seed=seed * 4096 + torch.arange(len(tasks)),
    )


def prepared(
    inputs: Tensor,
    task: Int[Tensor, "n"],
    augmentation: Augmentation | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return stored examples as a learner is trained on them. `task` tells which belong together.

    Raises `DatasetError` if the augmentation takes other inputs.
    """
    if inputs.dtype != torch.uint8:
        return inputs
    if augmentation is not None:
        if generator is None:
            raise ValueError("augmentation needs a generator")
        return augmentation(inputs, task, generator)
    if inputs.ndim == 4:
        return photo(inputs, inputs.shape[1])
    return F.avg_pool2d(inputs[:, None].float() / 255, 2)


def same_task(mask: Bool[Tensor, "tasks m"]) -> Int[Tensor, "n"]:
    """Return the index of the task of each real entry of a padded batch, in the order of `x[mask]`."""
    return torch.arange(len(mask))[:, None].expand_as(mask)[mask]


def _pad(rows: list[np.ndarray]) -> tuple[Tensor, Tensor]:
    padded = pad_sequence([torch.from_numpy(row).long() for row in rows], batch_first=True)
    lengths = torch.tensor([len(row) for row in rows])
    return padded, torch.arange(padded.shape[1]) < lengths[:, None]


def _scatter(flat: Tensor, mask: Tensor) -> Tensor:
    out = flat.new_zeros((*mask.shape, *flat.shape[1:]))
    out[mask] = flat
    return out
