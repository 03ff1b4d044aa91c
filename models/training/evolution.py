"""Evolution: antithetic evolution strategies, and CMA-ES by the library `cma`.

Evolution strategies (Salimans et al. 2017, 1703.03864) climb the fitness smoothed by Gaussian noise,

    ∇ E[F(θ + σε)] ≈ 1/(nσ) Σ_i s_i ε_i,

with mirrored noise (Brockhoff et al. 2010: each ε is used as ε and −ε, so that a pair's difference counts), and ranks s
in [−½, ½] in place of fitness, ties at their mean rank, so that only its order matters; Adam takes the step.

CMA-ES (Hansen 2016, 1604.00772) adapts the covariance of the noise as well: of all parameters up to 512, else of each
alone (Ros, Hansen 2008).
"""

from __future__ import annotations

import importlib
import math
import warnings
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from models.training.search import SearchError
from models.training.strategy import Ascent, Strategy, noise

_FULL_COVARIANCE = 512
"""Parameters up to which CMA-ES learns how they vary together; its cost grows with the cube of their number."""


class AntitheticES(Strategy):
    """Antithetic evolution strategies. `population` is even: the second half mirrors the first."""

    def __init__(
        self, start: Float[Tensor, "size"], sigma: float, population: int, lr: float, seed: int
    ) -> None:
        self.mean = start.clone()
        self._sigma = sigma
        self._pairs = population // 2
        self._seed = seed
        self._ascent = Ascent(len(start), lr)

    def ask(self, generation: int) -> Float[Tensor, "population size"]:
        step = self._sigma * self._noise(generation)
        return torch.cat((self.mean + step, self.mean - step))

    def tell(self, generation: int, fitness: Float[Tensor, "population"], rate: float) -> None:
        plus, minus = ranks(fitness).chunk(2)
        gradient = (plus - minus) @ self._noise(generation) / (2 * self._pairs * self._sigma)
        self.mean = self._ascent.step(self.mean, gradient, generation, rate)

    def state(self) -> dict[str, Tensor]:
        return {"mean": self.mean, "moments": self._ascent.moments}

    def restore(self, state: dict[str, Tensor]) -> None:
        self.mean, self._ascent.moments = state["mean"], state["moments"]

    def _noise(self, generation: int) -> Float[Tensor, "pairs size"]:
        return noise(self._seed, generation, self._pairs, len(self.mean))


def ranks(fitness: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
    """Return ranks from −½ for the least to ½ for the most; ties share their mean rank."""
    _, inverse, counts = fitness.unique(return_inverse=True, return_counts=True)
    upper = counts.cumsum(0).to(torch.float32)
    middle = upper - (counts.to(torch.float32) + 1) / 2
    found: Tensor = middle[inverse] / (len(fitness) - 1) - 0.5
    return found


class CmaEs(Strategy):
    """CMA-ES. Its state is all fitness so far: the library is deterministic, so a resumed search replays it."""

    def __init__(self, start: Float[Tensor, "size"], sigma: float, population: int, seed: int) -> None:
        """Raises `SearchError` if the library is not installed."""
        self._start, self._sigma, self._population, self._seed = start.clone(), sigma, population, seed
        self._library = _library()
        self._begin()

    def _begin(self) -> None:
        rng = np.random.default_rng(self._seed)
        options = {
            "popsize": self._population,
            "CMA_diagonal": len(self._start) > _FULL_COVARIANCE,
            # Its own generator: the library's default draws from numpy's global one.
            "seed": math.nan,
            "randn": lambda *shape: rng.standard_normal(shape),
            "verbose": -9,
            "verb_log": 0,
        }
        self._search = self._library.CMAEvolutionStrategy(self._start.double().numpy(), self._sigma, options)
        self._history: list[Tensor] = []
        self._drawn: list[Any] | None = None
        self.mean = self._start

    def ask(self, generation: int) -> Float[Tensor, "population size"]:
        if self._drawn is None:
            self._drawn = self._search.ask()
        return torch.from_numpy(np.stack(self._drawn)).to(self._start.dtype)

    def tell(self, generation: int, fitness: Float[Tensor, "population"], rate: float) -> None:
        self.ask(generation)
        self._search.tell(self._drawn, (-fitness.double()).tolist())
        self._drawn = None
        self._history.append(fitness.clone())
        self.mean = torch.from_numpy(self._search.mean.copy()).to(self._start.dtype)

    def state(self) -> dict[str, Tensor]:
        history = torch.stack(self._history) if self._history else torch.zeros(0, self._population)
        return {"start": self._start, "told": history}

    def restore(self, state: dict[str, Tensor]) -> None:
        self._start = state["start"]
        self._begin()
        for generation, fitness in enumerate(state["told"]):
            self.tell(generation, fitness, 1.0)


def _library() -> Any:
    try:
        with warnings.catch_warnings():
            # The library warns if there is no matplotlib to plot with.
            warnings.simplefilter("ignore")
            return importlib.import_module("cma")
    except ImportError as error:
        raise SearchError("cma-es needs the library cma: pip install 'hyperserve[search]'") from error
