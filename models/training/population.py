"""Meta-training by search: each step asks a strategy for a population, scores it on the tasks of the step, tells it.

The folder of a run holds what that of `GradientTrainer` holds. Tasks and draws are keyed by (seed, step), so a resumed
run is the run that was never interrupted.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

import torch
from torch import Tensor

from models.data.episodes import Augmentation
from models.protocol import MetaLearner
from models.training import checkpoint
from models.training.checkpoint import Progress
from models.training.evolution import AntitheticES, CmaEs
from models.training.fitness import Fitness
from models.training.gradient import (
    STATE_FILE,
    GradientTrainer,
    Report,
    Sampler,
    TrainConfig,
    TrainingDivergedError,
    Validate,
)
from models.training.reinforce import Reinforce
from models.training.search import SearchConfig, Subset
from models.training.strategy import Strategy


def strategy_of(start: Tensor, search: SearchConfig, config: TrainConfig) -> Strategy:
    """Raises `SearchError` where the library of cma-es is missing."""
    if search.optimiser == "cma-es":
        return CmaEs(start, search.sigma, search.population, config.seed)
    kind = AntitheticES if search.optimiser == "evolution" else Reinforce
    return kind(start, search.sigma, search.population, config.lr, config.seed)


class PopulationTrainer:
    """A step is a generation. What is validated and kept is the mean of the strategy."""

    def __init__(
        self,
        learner: MetaLearner,
        sampler: Sampler,
        augmentation: Augmentation | None,
        config: TrainConfig,
        search: SearchConfig,
        folder: Path,
    ) -> None:
        self.config = config
        self.search = search
        self.folder = folder
        self.learner = learner.to(config.device).eval()
        self.subset = Subset(self.learner, search.parameters)
        self.strategy = strategy_of(self.subset.read().cpu(), search, config)
        self.best = self.strategy.mean
        self.progress = Progress()
        self._sampler = sampler
        self._augmentation = augmentation
        self._fitness = Fitness(self.learner, self.subset, search)

    @property
    def state_file(self) -> Path:
        return self.folder / STATE_FILE

    def run(self, validate: Validate, report: Report) -> MetaLearner:
        """Trains to the end, resuming where the folder says so; returns the best validated learner."""
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
        self.subset.write(self.best)
        return self.learner

    def _step(self) -> dict[str, float]:
        step, config = self.progress.step, self.config
        episodes = self._sampler.episodes(step, self._augmentation).to(config.device)
        fitness = self._fitness(self.strategy.ask(step).to(config.device), episodes).cpu()
        if not torch.isfinite(fitness).all():
            raise TrainingDivergedError(f"the fitness of generation {step} is not finite")
        self.strategy.tell(step, fitness, 0.5 * (1 + math.cos(math.pi * step / config.steps)))
        self.progress.step = step + 1
        offset = 1.0 if self.search.objective == "accuracy" else 0.0
        return {
            "loss": offset - fitness.mean().item(),
            "spread": fitness.std().item(),
            "evaluations": float(self.progress.step * self.search.population),
        }

    def _validate(self, validate: Validate, row: dict[str, float]) -> None:
        self.subset.write(self.strategy.mean)
        scores = validate(self.learner)
        progress = self.progress
        if scores["score"] > progress.best_score:
            progress.best_score, progress.best_step = scores["score"], progress.step
            self.best = self.strategy.mean
        progress.history.append({"step": progress.step, "seconds": progress.seconds, **row, **scores})
        checkpoint.write_history(self.folder, progress.history)

    def _save(self) -> None:
        searched = {f"strategy/{name}": value for name, value in self.strategy.state().items()}
        checkpoint.write(self.state_file, searched | {"best": self.best}, self.progress)

    def _resume(self) -> None:
        tensors, self.progress = checkpoint.read(self.state_file)
        self.best = tensors.pop("best")
        self.strategy.restore({name.removeprefix("strategy/"): value for name, value in tensors.items()})


def trainer_of(
    learner: MetaLearner,
    sampler: Sampler,
    augmentation: Augmentation | None,
    config: TrainConfig,
    search: SearchConfig | None,
    folder: Path,
) -> GradientTrainer | PopulationTrainer:
    """By gradient descent unless a search is asked for. Raises `SearchError`."""
    if search is None:
        return GradientTrainer(learner, sampler, augmentation, config, folder)
    return PopulationTrainer(learner, sampler, augmentation, config, search, folder)
