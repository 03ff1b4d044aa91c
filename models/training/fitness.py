"""Fitness of parameter vectors: answers to the queries of a batch of tasks, for a whole population at once.

Tasks are batched as everywhere; over the population `torch.func.vmap` runs one learner with many parameters, or a loop
does if it cannot. The encoder is not searched, so a batch is embedded once for all of them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, vmap

from models.fewshot.common.classification import EmbeddedEpisodes, cross_entropy, embed_episodes, per_log_way
from models.predictive import Categorical
from models.protocol import Episodes, MetaLearner, Support
from models.training.search import SearchConfig, SearchError, Subset


class _Answers(nn.Module):
    """A learner as a function of its parameters."""

    def __init__(self, learner: MetaLearner) -> None:
        super().__init__()
        self.learner = learner

    def forward(
        self, support: Support, query: Float[Tensor, "tasks query *feature"]
    ) -> Float[Tensor, "tasks query way"]:
        answer = self.learner.predict(self.learner.adapt(support), query)
        if not isinstance(answer, Categorical):
            raise SearchError(f"{type(self.learner).__name__} does not classify; a search scores classifiers")
        return answer.log_probs


class Fitness:
    """Scores of vectors of a subset of a learner's parameters. Foreign queries take no part."""

    def __init__(self, learner: MetaLearner, subset: Subset, config: SearchConfig) -> None:
        self._learner = learner
        self._subset = subset
        self._config = config
        self._answers = _Answers(learner)
        over = config.over_population
        self._at_once: bool | None = None if over == "auto" else over == "vmap"

    @torch.no_grad()
    def __call__(self, population: Float[Tensor, "n size"], episodes: Episodes) -> Float[Tensor, "n"]:
        """Return the mean over the tasks. The learner's own parameters do not change."""
        self._learner.eval()
        embedded = embed_episodes(self._learner.embed, episodes)
        split = {f"learner.{name}": value for name, value in self._subset.split(population).items()}

        def one(parameters: dict[str, Tensor]) -> Tensor:
            given = embedded.support, embedded.query
            log_probs: Tensor = functional_call(self._answers, parameters, given)
            return self._score(log_probs, embedded)

        if self._at_once is None:
            self._at_once = _can_batch(one, split)
        if self._at_once:
            scored: Tensor = vmap(one)(split)
            return scored
        rows = range(len(population))
        return torch.stack([one({name: value[row] for name, value in split.items()}) for row in rows])

    def _score(self, log_probs: Float[Tensor, "tasks query way"], embedded: EmbeddedEpisodes) -> Tensor:
        target, known = embedded.target, embedded.known
        if self._config.objective == "loss":
            nll = cross_entropy(log_probs, target, known)
            return -per_log_way(nll, embedded.support.n_way).mean()
        right = (log_probs.argmax(-1) == target) & known
        return (right.sum(1) / known.sum(1).clamp_min(1)).mean()


def _can_batch(one: Callable[[dict[str, Tensor]], Tensor], split: dict[str, Tensor]) -> bool:
    """Return True if vmap takes the method, which fails for control flow on numbers. Only a try can tell.

    Other faults will be raised by the loop.
    """
    try:
        vmap(one)({name: value[:2] for name, value in split.items()})
    except RuntimeError:
        return False
    return True
