"""The interface of the methods of a comparison, and the setting that all of them share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from models.continual.stream_config import Scenario, TargetName
from models.continual.two_step_training import Schedule
from models.protocol import LearnerError


@dataclass(frozen=True)
class ComparisonSetting:
    """Networks, iterations and optimiser of a comparison. All stream tasks have `way` classes."""

    scenario: Scenario
    tasks: int
    way: int
    shape: tuple[int, ...]
    """Shape of one input."""
    pictures: bool = True
    """True if neighbouring pixels are related, so that inputs are treated as images."""
    target: TargetName = "mlp"
    """Architecture of the main network."""
    hidden: tuple[int, ...] = (400, 400)
    """Widths of its fully connected layers; the ResNet has none."""
    iterations: int = 2000
    """Steps per stream task."""
    batch: int = 128
    lr: float = 1e-3
    """Learning rate of Adam, which starts afresh with each stream task."""
    schedule: Schedule = "constant"
    """Schedule of the learning rate."""
    precision: Literal["fp32", "bf16"] = "bf16"
    """Precision of matrix products in training; parameters and predictions are fp32."""
    encoder: nn.Module | None = None
    """A frozen encoder whose features are learned from instead of pixels, by methods that can."""
    device: str = "cpu"
    """Device of networks and examples; random numbers are drawn on the CPU."""
    seed: int = 0

    @property
    def inputs(self) -> int:
        """Number of values in one input."""
        return int(torch.Size(self.shape).numel())

    @property
    def outputs(self) -> int:
        """Number of outputs: CL2 has one head, CL1 and CL3 have one per stream task."""
        return self.way if self.scenario == "cl2" else self.way * self.tasks

    def head_of(self, task: int) -> slice:
        """Return the outputs of a stream task."""
        return slice(0, self.way) if self.scenario == "cl2" else slice(task * self.way, (task + 1) * self.way)

    def active(self, task: int, now: int) -> slice:
        """Return the outputs that compete for a task's examples while `now` is learned: in CL3 those of all classes
        so far."""
        return slice(0, self.head_of(now).stop) if self.scenario == "cl3" else self.head_of(task)

    def indices(self, task: int, y: Int[Tensor, "n"]) -> Int[Tensor, "n"]:
        """Convert classes of a stream task to indices of its active outputs."""
        return y + task * self.way if self.scenario == "cl3" else y

    def autocast(self) -> torch.autocast:
        """Return the context in which training computes matrix products."""
        kind = torch.device(self.device).type
        return torch.autocast(kind, torch.bfloat16, enabled=self.precision == "bf16")

    def generator(self, purpose: int) -> torch.Generator:
        """Return a generator of random numbers that depends on the seed and the purpose."""
        return torch.Generator().manual_seed(1_000_003 * purpose + self.seed)


@dataclass(frozen=True)
class ContinualPrediction:
    """Predictions of a batch. `label` indexes the classes of the given stream task or, if none was given, of `task`."""

    label: Int[Tensor, "n"]
    task: Int[Tensor, "n"] | None = None
    """The inferred stream task; None if none was inferred."""
    unknown: Float[Tensor, "n"] | None = None
    """Probability that the input belongs to no stream task; None if the method does not estimate it."""


class NoConfig(BaseModel):
    """Configuration of a method without hyperparameters."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ContinualMethod(ABC):
    """A method that learns stream tasks 0, 1, … once each, in order."""

    Config: ClassVar[type[BaseModel]] = NoConfig
    generates_inputs: ClassVar[bool] = False
    """True if the method learns to generate inputs, which must then be grey, from 0 to 1, and used by an MLP."""
    takes_encoder: ClassVar[bool] = False
    """True if the method can learn from the features of a frozen encoder."""

    def __init__(self, setting: ComparisonSetting, config: BaseModel) -> None:
        self.setting = setting
        self.seen = 0

    @classmethod
    def with_budget(cls, setting: ComparisonSetting, config: BaseModel) -> BaseModel:
        """Return the configuration with the values that the budget of the comparison determines."""
        return config

    @abstractmethod
    def learn(self, task: int, x: Float[Tensor, "n *pixels"], y: Int[Tensor, "n"]) -> None:
        """Learn a stream task, whose data is not seen again. `y` indexes its classes."""

    @abstractmethod
    def predict(self, x: Float[Tensor, "n *pixels"], task: int | None) -> ContinualPrediction:
        """Predict labels. `task` is given in CL1 and None otherwise."""

    @abstractmethod
    def stored(self) -> Mapping[str, Tensor]:
        """Return all tensors that must be stored for the next stream task and for predictions."""

    @property
    def stored_bytes(self) -> int:
        """Size of all tensors that must be stored."""
        return sum(value.numel() * value.element_size() for value in self.stored().values())

    def begin(self, task: int) -> None:
        """Raise `LearnerError` if the task is not the next one."""
        if task != self.seen:
            raise LearnerError(f"the next stream task is {self.seen}, not {task}")


def most_certain(log_probs: Float[Tensor, "tasks n way"]) -> ContinualPrediction:
    """Return, for each input, the prediction of the network with the lowest entropy; of equals, the first."""
    entropy = -(log_probs.exp() * log_probs).sum(-1)
    task = entropy.argmin(0)
    label = log_probs.argmax(-1).gather(0, task[None])[0]
    return ContinualPrediction(label, task)
