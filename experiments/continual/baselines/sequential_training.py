"""Sequential training of one network: the lower bound, and the training loop of the other methods with one network."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel
from torch import Tensor
from torch.nn import functional as F

from experiments.continual.baselines.continual_method import (
    ComparisonSetting,
    ContinualMethod,
    ContinualPrediction,
)
from experiments.continual.baselines.flat_networks import main_network
from models.continual.two_step_training import scheduled
from models.training.trainer import TrainingDivergedError

_CHECKED_EVERY = 100


class SequentialTraining(ContinualMethod):
    """One network, fine-tuned on each stream task. Subclasses override the hooks to protect what it has learned."""

    def __init__(self, setting: ComparisonSetting, config: BaseModel) -> None:
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
                raise TrainingDivergedError(f"the loss is {loss.item()} at step {step} of stream task {task}")
            self.step(optimisers)
            for schedule in schedules:
                schedule.step()
        self.finish(task, x, y)
        self.seen += 1

    def predict(self, x: Float[Tensor, "n *pixels"], task: int | None) -> ContinualPrediction:
        setting = self.setting
        logits = self.network.outputs_of(x.flatten(1))
        if setting.scenario != "cl3":
            return ContinualPrediction(logits[:, setting.head_of(task or 0)].argmax(-1))
        best = logits[:, : setting.way * self.seen].argmax(-1)
        return ContinualPrediction(best % setting.way, best // setting.way)

    def stored(self) -> Mapping[str, Tensor]:
        return {"network": self.network.flat}

    def logits(self, x: Float[Tensor, "batch d"]) -> Float[Tensor, "batch outputs"]:
        """Return the outputs of the network in training."""
        with self.setting.autocast():
            return self.network(x).float()

    def loss(self, task: int, x: Float[Tensor, "batch d"], y: Int[Tensor, "batch"]) -> Float[Tensor, ""]:
        """Return the cross-entropy of examples of this or an earlier stream task over the outputs active now."""
        active = self.setting.active(task, self.seen)
        return F.cross_entropy(self.logits(x)[:, active], self.setting.indices(task, y))

    def optimisers(self, task: int) -> list[torch.optim.Optimizer]:
        """Hook: return the optimisers of a stream task, at its start."""
        return [self.network.adam(self.setting.lr)]

    def losses(self, task: int, x: Float[Tensor, "batch d"], y: Int[Tensor, "batch"]) -> Float[Tensor, ""]:
        """Hook: return the total loss of a batch."""
        return self.loss(task, x, y)

    def step(self, optimisers: list[torch.optim.Optimizer]) -> None:
        """Hook: step the optimisers, after adding the gradients of penalties that have them in closed form."""
        for optimiser in optimisers:
            optimiser.step()

    def finish(self, task: int, x: Float[Tensor, "n d"], y: Int[Tensor, "n"]) -> None:
        """Hook: called at the end of a stream task, with all of its data for the last time."""
