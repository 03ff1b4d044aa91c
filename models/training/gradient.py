"""Meta-training by gradient descent on `MetaLearner.loss`: warm-up and cosine, moving average, best checkpoint.

Every random draw is keyed by (seed, step), so a resumed run is the run that was never interrupted.
"""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from models.data.episodes import Augmentation
from models.encoders.base import Encoder
from models.protocol import Episodes, MetaLearner
from models.training import checkpoint
from models.training.checkpoint import Progress

Validate = Callable[[MetaLearner], dict[str, float]]
"""Scores of the averaged model on validation classes; the entry "score" chooses the best checkpoint."""
Report = Callable[[dict[str, float]], None]
GRADIENT_CLIP = 5.0
STATE_FILE = "state.safetensors"


@runtime_checkable
class Sampler(Protocol):
    """Draws what a step trains on, the same for the same step."""

    def episodes(self, step: int, augmentation: Augmentation | None) -> Episodes: ...


class TrainConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(default=12_000, ge=1)
    seed: int = 0
    lr: float = Field(default=2e-3, gt=0)
    weight_decay: float = Field(default=5e-4, ge=0)
    warm_up: int = 300
    ema: float = Field(default=0.998, ge=0, lt=1)
    """Decay of the moving average of weights, which is what is validated and kept."""
    precision: Literal["fp32", "bf16"] = "fp32"
    device: str = "cpu"
    validate_every: int = Field(default=1_000, ge=1)
    checkpoint_every: int = Field(default=250, ge=1)


class TrainingDivergedError(RuntimeError):
    """The loss is not finite."""


def _moving_average(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], int | Tensor], None]:
    """Of parameters and BatchNorm statistics. It begins short: a training of 1,000 steps forgets its start too."""

    def update(averaged: Sequence[Tensor], current: Sequence[Tensor], count: int | Tensor) -> None:
        reached = min(decay, (1 + int(count)) / (10 + int(count)))
        get_ema_multi_avg_fn(reached)(averaged, current, count)

    return update


class GradientTrainer:
    """Holds the state of one run in `folder`: `state.safetensors`, `history.csv`, `history.json`."""

    def __init__(
        self,
        learner: MetaLearner,
        sampler: Sampler,
        augmentation: Augmentation | None,
        config: TrainConfig,
        folder: Path,
    ) -> None:
        self.config = config
        self.folder = folder
        self.learner = learner.to(config.device)
        self.average = AveragedModel(self.learner, multi_avg_fn=_moving_average(config.ema), use_buffers=True)
        self.best = AveragedModel(self.learner, use_buffers=True)
        # After the copies: those are validated and kept in full precision.
        encoder = self.learner.encoder
        assert isinstance(encoder, Encoder)
        encoder.compute_dtype = torch.bfloat16 if config.precision == "bf16" else None
        self._sampler = sampler
        self._augmentation = augmentation
        trained = [p for p in self.learner.parameters() if p.requires_grad]
        self._optimiser = torch.optim.AdamW(trained, lr=config.lr, weight_decay=config.weight_decay)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimiser, self._lr_factor)
        self.progress = Progress()

    @property
    def state_file(self) -> Path:
        return self.folder / STATE_FILE

    def run(self, validate: Validate, report: Report) -> MetaLearner:
        """Trains to the end, resuming where the folder says so; returns the best averaged learner."""
        if self.state_file.exists():
            self._resume()
        started = time.monotonic() - self.progress.seconds
        while self.progress.step < self.config.steps:
            row = self._step()
            self.progress.seconds = time.monotonic() - started
            step = self.progress.step
            if step % self.config.validate_every == 0 or step == self.config.steps:
                self._validate(validate, row)
                report({"step": step, **row, **self.progress.history[-1]})
            else:
                report({"step": step, **row})
            if step % self.config.checkpoint_every == 0 or step == self.config.steps:
                self._save()
        learner = self.best.module
        assert isinstance(learner, MetaLearner)
        return learner.eval()

    def _step(self) -> dict[str, float]:
        config, step = self.config, self.progress.step
        self.learner.train()
        episodes = self._sampler.episodes(step, self._augmentation).to(config.device)
        losses = self.learner.loss(episodes, step / config.steps)
        loss = losses.total.mean()
        if not torch.isfinite(loss):
            raise TrainingDivergedError(f"loss is {loss.item()} at step {step}")
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.learner.parameters(), GRADIENT_CLIP)
        self._optimiser.step()
        self._schedule.step()
        self.average.update_parameters(self.learner)
        self.progress.step = step + 1
        return {"loss": loss.item(), **{name: part.mean().item() for name, part in losses.parts.items()}}

    def _validate(self, validate: Validate, row: dict[str, float]) -> None:
        learner = self.average.module.eval()
        assert isinstance(learner, MetaLearner)
        scores = validate(learner)
        progress = self.progress
        if scores["score"] > progress.best_score:
            progress.best_score, progress.best_step = scores["score"], progress.step
            self.best.module.load_state_dict(learner.state_dict())
        progress.history.append({"step": progress.step, "seconds": progress.seconds, **row, **scores})
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "history.json").write_text(json.dumps(progress.history, indent=1) + "\n")
        with (self.folder / "history.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, progress.history[0].keys())
            writer.writeheader()
            writer.writerows(progress.history)

    def _lr_factor(self, step: int) -> float:
        config = self.config
        if step < config.warm_up:
            return (step + 1) / config.warm_up
        share = (step - config.warm_up) / max(1, config.steps - config.warm_up)
        return float(0.5 * (1 + torch.cos(torch.tensor(share * torch.pi))))

    def _models(self) -> dict[str, torch.nn.Module]:
        return {"learner": self.learner, "average": self.average, "best": self.best}

    def _save(self) -> None:
        checkpoint.save(self.state_file, self._models(), self._optimiser, self.progress)

    def _resume(self) -> None:
        self.progress = checkpoint.restore(self.state_file, self._models(), self._optimiser)
        self._schedule.last_epoch = self.progress.step
        for group in self._optimiser.param_groups:
            group["lr"] = self.config.lr * self._lr_factor(self.progress.step)
