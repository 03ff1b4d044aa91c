"""Base of every meta-training: steps, validation, the best candidate, checkpoints, resuming.

Every random draw is keyed by (seed, step), so a resumed run is the run that was never interrupted.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field

from models.augmentation import Augmentation
from models.errors import ModelError
from models.protocol import Episodes, MetaLearner
from models.training.checkpoint import Progress, write_history

Validate = Callable[[MetaLearner], dict[str, float]]
"""Scores of a learner on validation classes; the entry "score" chooses the best checkpoint."""
Report = Callable[[dict[str, float]], None]
STATE_FILE = "state.safetensors"


@runtime_checkable
class Sampler(Protocol):
    """Source of the tasks of a step, the same for the same step."""

    def episodes(self, step: int, augmentation: Augmentation | None) -> Episodes: ...


class TrainConfig(BaseModel):
    """Schedule of a training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(default=12_000, ge=1)
    seed: int = 0
    lr: float = Field(default=2e-3, gt=0)
    weight_decay: float = Field(default=5e-4, ge=0)
    warm_up: int = 300
    ema: float = Field(default=0.998, ge=0, lt=1)
    """Decay of the moving average of weights, which is validated and returned."""
    precision: Literal["fp32", "bf16"] = "fp32"
    device: str = "cpu"
    validate_every: int = Field(default=1_000, ge=1)
    checkpoint_every: int = Field(default=250, ge=1)


class TrainingDivergedError(ModelError, RuntimeError):
    """A training ended in numbers that are not finite."""


class Trainer(ABC):
    """One run with its state in `folder`: `state.safetensors`, `history.csv`, `history.json`."""

    def __init__(self, config: TrainConfig, folder: Path) -> None:
        self.config = config
        self.folder = folder
        self.progress = Progress()

    @property
    def state_file(self) -> Path:
        return self.folder / STATE_FILE

    def run(self, validate: Validate, report: Report) -> MetaLearner:
        """Train to the end, resuming a run in the folder; return the learner that validates best."""
        if self.state_file.exists():
            self._resume()
        started = time.monotonic() - self.progress.seconds
        while self.progress.step < self.config.steps:
            row = self._step()
            self.progress.seconds = time.monotonic() - started
            step = self.progress.step
            last = step == self.config.steps
            if last or step % self.config.validate_every == 0:
                self._validate(validate, row)
                report({"step": step, **row, **self.progress.history[-1]})
            else:
                report({"step": step, **row})
            if last or step % self.config.checkpoint_every == 0:
                self._save()
        return self._best()

    def _validate(self, validate: Validate, row: dict[str, float]) -> None:
        scores, progress = validate(self._candidate()), self.progress
        if scores["score"] > progress.best_score:
            progress.best_score, progress.best_step = scores["score"], progress.step
            self._keep()
        progress.history.append({"step": progress.step, "seconds": progress.seconds, **row, **scores})
        write_history(self.folder, progress.history)

    @abstractmethod
    def _step(self) -> dict[str, float]:
        """Take one step, counted in `progress`; return its report."""

    @abstractmethod
    def _candidate(self) -> MetaLearner:
        """Return the learner to validate."""

    @abstractmethod
    def _keep(self) -> None:
        """Store the candidate as the best so far."""

    @abstractmethod
    def _best(self) -> MetaLearner:
        """Return the best candidate."""

    @abstractmethod
    def _save(self) -> None: ...

    @abstractmethod
    def _resume(self) -> None: ...
