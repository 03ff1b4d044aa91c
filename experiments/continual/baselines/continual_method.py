"""What every method of a comparison is given alike, and what the harness asks of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from models.continual.stream_config import Scenario, TargetName
from models.continual.two_step_training import Schedule
from models.protocol import LearnerError


@dataclass(frozen=True)
class Setting:
    """The budget: networks, iterations and optimiser of a comparison. All stream tasks have `way` classes."""

    scenario: Scenario
    tasks: int
    way: int
    shape: tuple[int, ...]
    """Of one input."""
    pictures: bool = True
    """Whether neighbouring inputs belong together."""
    target: TargetName = "mlp"
    """The main network."""
    hidden: tuple[int, ...] = (400, 400)
    """Widths of its fully connected layers; the ResNet has none."""
    iterations: int = 2000
    """Steps of each stream task."""
    batch: int = 128
    lr: float = 1e-3
    """Of Adam, started afresh with each stream task."""
    schedule: Schedule = "constant"
    """Of the learning rate."""
    precision: Literal["fp32", "bf16"] = "bf16"
    """Of matrix products in training; parameters and answers are fp32."""
    device: str = "cpu"
    """Of networks and of the examples given; random numbers are drawn by the processor."""
    seed: int = 0

    @property
    def inputs(self) -> int:
        return int(torch.Size(self.shape).numel())

    @property
    def outputs(self) -> int:
        """CL2 has one head, CL1 and CL3 one for each stream task."""
        return self.way if self.scenario == "cl2" else self.way * self.tasks

    def own(self, task: int) -> slice:
        """The outputs of a stream task."""
        return slice(0, self.way) if self.scenario == "cl2" else slice(task * self.way, (task + 1) * self.way)

    def active(self, task: int, now: int) -> slice:
        """The outputs that compete for examples of a stream task while `now` is learned: in CL3 all classes so far."""
        return slice(0, self.own(now).stop) if self.scenario == "cl3" else self.own(task)

    def indices(self, task: int, y: Int[Tensor, "n"]) -> Int[Tensor, "n"]:
        """Classes of a stream task as indices of its active outputs."""
        return y + task * self.way if self.scenario == "cl3" else y

    def autocast(self) -> torch.autocast:
        kind = torch.device(self.device).type
        return torch.autocast(kind, torch.bfloat16, enabled=self.precision == "bf16")

    def generator(self, purpose: int) -> torch.Generator:
        return torch.Generator().manual_seed(1_000_003 * purpose + self.seed)


@dataclass(frozen=True)
class Answer:
    """`label` indexes the classes of a stream task: of the one that was told, or of `task`."""

    label: Int[Tensor, "n"]
    task: Int[Tensor, "n"] | None = None
    """The stream task that was inferred; None where none is."""


class NoConfig(BaseModel):
    """A method without hyperparameters of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ContinualMethod(ABC):
    """Learns stream tasks 0, 1, … once each, in order."""

    Config: ClassVar[type[BaseModel]] = NoConfig
    draws: ClassVar[bool] = False
    """Whether it learns to draw inputs, which must then be grey, from 0 to 1, and for an MLP."""

    def __init__(self, setting: Setting, config: BaseModel) -> None:
        self.setting = setting
        self.seen = 0

    @classmethod
    def within(cls, setting: Setting, config: BaseModel) -> BaseModel:
        """The configuration with what the budget of the comparison says of it."""
        return config

    @abstractmethod
    def learn(self, task: int, x: Float[Tensor, "n *pixels"], y: Int[Tensor, "n"]) -> None:
        """`y` indexes the classes of this stream task. Its data is not seen again."""

    @abstractmethod
    def predict(self, x: Float[Tensor, "n *pixels"], task: int | None) -> Answer:
        """`task` is told in CL1 and None otherwise."""

    @abstractmethod
    def kept(self) -> Mapping[str, Tensor]:
        """All that must stay for the next stream task and for answers."""

    @property
    def kept_bytes(self) -> int:
        return sum(value.numel() * value.element_size() for value in self.kept().values())

    def begin(self, task: int) -> None:
        if task != self.seen:
            raise LearnerError(f"stream task {task} where {self.seen} is next")


def likelier(log_probs: Float[Tensor, "tasks n way"]) -> Answer:
    """Of the answers of several networks that of lowest entropy; the first of equals."""
    entropy = -(log_probs.exp() * log_probs).sum(-1)
    task = entropy.argmin(0)
    label = log_probs.argmax(-1).gather(0, task[None])[0]
    return Answer(label, task)
