"""Other libraries, run on the same network, episodes and thread as ours.

`README.md` beside this file explains how they are installed into a separate folder. Packages whose `__init__` imports
torchvision, gym or a Cython extension, none of which the methods use, are entered without running it; every module that
runs is unchanged.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.family.interleaved_timing import Contender
from benchmarks.family.random_tasks import WAY, learner_of
from models.encoder_protocol import Encoder
from models.protocol import Episodes, MetaLearner

_LR, INNER_LR = 1e-3, 0.1


class Peers:
    """The libraries in `folder`. Raises `ModuleNotFoundError` if one is missing."""

    def __init__(self, folder: Path) -> None:
        for package in ("easyfsl", "easyfsl.methods", "learn2learn", "learn2learn.algorithms"):
            found = folder.joinpath(*package.split("."))
            if not found.is_dir():
                raise ModuleNotFoundError(
                    f"{package} is missing in {folder}: see benchmarks/family/README.md"
                )
            entered = ModuleType(package)
            entered.__path__ = [str(found)]
            sys.modules[package] = entered
        self._protonet = importlib.import_module("easyfsl.methods.prototypical_networks").PrototypicalNetworks
        self._maml = importlib.import_module("learn2learn.algorithms.maml").MAML

    def protonet(self, episodes: Episodes) -> Contender:
        """Train as easyfsl's notebooks do: one optimiser step per episode."""
        model = self._protonet(_network())
        optimiser = torch.optim.Adam(model.parameters(), lr=_LR)
        assert episodes.support_y is not None
        tasks = list(
            zip(episodes.support_x, episodes.support_y, episodes.query_x, episodes.query_y, strict=True)
        )

        def train() -> None:
            for x, y, query, target in tasks:
                optimiser.zero_grad()
                model.process_support_set(x, y)
                F.cross_entropy(model(query), target).backward()
                optimiser.step()

        return train

    def maml(self, episodes: Episodes, steps: int) -> Contender:
        """Train as learn2learn's examples/vision/maml_omniglot.py does: gradients are added over a meta-batch."""
        model = self._maml(nn.Sequential(_network(), nn.Linear(64, WAY)), lr=INNER_LR, first_order=False)
        return self._meta_batch(episodes, nn.Identity(), model, steps, list(model.parameters()))

    def anil(self, episodes: Episodes, steps: int) -> Contender:
        """Train as learn2learn's examples/vision/anil_fc100.py does: features once, and MAML of the head."""
        features, head = _network(), self._maml(nn.Linear(64, WAY), lr=INNER_LR)
        parameters = [*features.parameters(), *head.parameters()]
        return self._meta_batch(episodes, features, head, steps, parameters)

    @staticmethod
    def _meta_batch(
        episodes: Episodes, features: nn.Module, model: Any, steps: int, parameters: list[nn.Parameter]
    ) -> Contender:
        optimiser = torch.optim.Adam(parameters, lr=_LR)
        tasks = len(episodes.n_way)

        def train() -> None:
            assert episodes.support_y is not None
            optimiser.zero_grad()
            for task in range(tasks):
                clone = model.clone()
                shots = episodes.support_x.shape[1]
                both = features(torch.cat((episodes.support_x[task], episodes.query_x[task])))
                for _ in range(steps):
                    clone.adapt(F.cross_entropy(clone(both[:shots]), episodes.support_y[task]))
                F.cross_entropy(clone(both[shots:]), episodes.query_y[task]).backward()
            for parameter in parameters:
                assert parameter.grad is not None
                parameter.grad.mul_(1 / tasks)
            optimiser.step()

        return train

    def adapted_maml(self, x: torch.Tensor, y: torch.Tensor, steps: int) -> Contender:
        """Return a contender that adapts a network to a support set."""
        model = self._maml(nn.Sequential(_network(), nn.Linear(64, WAY)), lr=INNER_LR, first_order=True)

        def adapt() -> object:
            clone = model.clone()
            for _ in range(steps):
                clone.adapt(F.cross_entropy(clone(x), y))
            return clone

        return adapt


def ours(
    episodes: Episodes, method: str, hparams: dict[str, object], *, at_once: int, bf16: bool = False
) -> Contender:
    """Return our training step on `at_once` episodes at a time, as in `models.training.gradient`."""
    learner = learner_of(method, **hparams).train()
    assert isinstance(learner.encoder, Encoder)
    learner.encoder.compute_dtype = torch.bfloat16 if bf16 else None
    optimiser = torch.optim.AdamW(learner.parameters(), lr=_LR)
    parts = [_part(episodes, first, at_once) for first in range(0, len(episodes.n_way), at_once)]

    def train() -> None:
        for part in parts:
            _step(learner, optimiser, part)

    return train


def _step(learner: MetaLearner, optimiser: torch.optim.Optimizer, episodes: Episodes) -> None:
    optimiser.zero_grad(set_to_none=True)
    learner.loss(episodes, 0.5).total.mean().backward()
    torch.nn.utils.clip_grad_norm_(learner.parameters(), 5.0)
    optimiser.step()


def _part(episodes: Episodes, first: int, count: int) -> Episodes:
    parts = {
        name: value[first : first + count] for name, value in vars(episodes).items() if value is not None
    }
    return replace(episodes, **parts)


def _network() -> nn.Module:
    """Return Conv-4-64 as the libraries write it: ReLU before pooling, in torch's default memory format."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for channels in (1, 64, 64, 64):
        conv = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
        layers += [conv, nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten())
