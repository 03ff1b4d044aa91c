"""Meta-training by search: each step scores a population on the tasks of the step and moves the strategy."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from models.augmentation import Augmentation
from models.protocol import MetaLearner
from models.training import checkpoint
from models.training.evolution import AntitheticES, CmaEs
from models.training.fitness import Fitness
from models.training.gradient import GradientTrainer
from models.training.reinforce import Reinforce
from models.training.search import SearchConfig, Subset
from models.training.strategy import Strategy
from models.training.trainer import Sampler, TrainConfig, Trainer, TrainingDivergedError


def strategy_of(start: Tensor, search: SearchConfig, config: TrainConfig) -> Strategy:
    """Return the strategy of a search. Raises `SearchError` if the library of cma-es is missing."""
    if search.optimiser == "cma-es":
        return CmaEs(start, search.sigma, search.population, config.seed)
    kind = AntitheticES if search.optimiser == "evolution" else Reinforce
    return kind(start, search.sigma, search.population, config.lr, config.seed)


class PopulationTrainer(Trainer):
    """Search; a step is a generation. It validates and returns the mean of the strategy."""

    def __init__(
        self,
        learner: MetaLearner,
        sampler: Sampler,
        augmentation: Augmentation | None,
        config: TrainConfig,
        search: SearchConfig,
        folder: Path,
    ) -> None:
        super().__init__(config, folder)
        self.search = search
        self.learner = learner.to(config.device).eval()
        self.subset = Subset(self.learner, search.parameters)
        self.strategy = strategy_of(self.subset.read().cpu(), search, config)
        self.best = self.strategy.mean
        self._sampler = sampler
        self._augmentation = augmentation
        self._fitness = Fitness(self.learner, self.subset, search)

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

    def _candidate(self) -> MetaLearner:
        self.subset.write(self.strategy.mean)
        return self.learner

    def _keep(self) -> None:
        self.best = self.strategy.mean

    def _best(self) -> MetaLearner:
        self.subset.write(self.best)
        return self.learner

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
    """Return a trainer by gradient descent, or by search if one is given. Raises `SearchError`."""
    if search is None:
        return GradientTrainer(learner, sampler, augmentation, config, folder)
    return PopulationTrainer(learner, sampler, augmentation, config, search, folder)
