"""Training on with each stream task: the lower bound, and the loop that other single networks share."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel
from torch import Tensor
from torch.nn import functional as F

from experiments.continual.baselines.continual_method import Answer, ContinualMethod, Setting
from experiments.continual.baselines.flat_networks import main_network
from models.continual.two_step_training import scheduled
from models.training.trainer import TrainingDivergedError

_CHECKED_EVERY = 100


class FineTune(ContinualMethod):
    """One network with heads as the scenario has them; the hooks below are for those that protect it."""

    def __init__(self, setting: Setting, config: BaseModel) -> None:
        super().__init__(setting, config)
        self.generator = setting.generator(1)
        self.network = main_network(setting, setting.generator(0))

    def learn(self, task: int, x: Float[Tensor, "n *pixels"], y: Int[Tensor, "n"]) -> None:
        self.begin(task)
        setting, x = self.setting, x.flatten(1)
        optimisers = self.optimisers(task)
        schedules = [scheduled(each, setting.iterations, setting.schedule) for each in optimisers]
        for step in range(setting.iterations):
            rows = torch.randint(len(y), (setting.batch,), generator=self.generator)
            self.network.grad.zero_()
            loss = self.losses(task, x[rows], y[rows])
            loss.backward()
            if step % _CHECKED_EVERY == 0 and not torch.isfinite(loss):
                raise TrainingDivergedError(f"loss is {loss.item()} in step {step} of stream task {task}")
            self.step(optimisers)
            for schedule in schedules:
                schedule.step()
        self.finish(task, x, y)
        self.seen += 1

    def predict(self, x: Float[Tensor, "n *pixels"], task: int | None) -> Answer:
        setting = self.setting
        logits = self.network.answers(x.flatten(1))
        if setting.scenario != "cl3":
            return Answer(logits[:, setting.own(task or 0)].argmax(-1))
        found = logits[:, : setting.way * self.seen].argmax(-1)
        return Answer(found % setting.way, found // setting.way)

    def kept(self) -> Mapping[str, Tensor]:
        return {"network": self.network.flat}

    def logits(self, x: Float[Tensor, "batch d"]) -> Float[Tensor, "batch outputs"]:
        with self.setting.autocast():
            return self.network(x).float()

    def loss(self, task: int, x: Float[Tensor, "batch d"], y: Int[Tensor, "batch"]) -> Float[Tensor, ""]:
        """Cross-entropy of examples of a stream task, this one or one before, over what is active now."""
        active = self.setting.active(task, self.seen)
        return F.cross_entropy(self.logits(x)[:, active], self.setting.indices(task, y))

    # The hooks.

    def optimisers(self, task: int) -> list[torch.optim.Optimizer]:
        return [self.network.adam(self.setting.lr)]

    def losses(self, task: int, x: Float[Tensor, "batch d"], y: Int[Tensor, "batch"]) -> Float[Tensor, ""]:
        return self.loss(task, x, y)

    def step(self, optimisers: list[torch.optim.Optimizer]) -> None:
        """Gradients of `losses` are there; penalties that have a gradient in closed form join them here."""
        for optimiser in optimisers:
            optimiser.step()

    def finish(self, task: int, x: Float[Tensor, "n d"], y: Int[Tensor, "n"]) -> None:
        """With all data of the stream task, for the last time."""
