"""Meta-training without a gradient of the objective: what is searched, by what, and for what.

A search moves a small set of named parameters outside the encoder, which stays as it is: a head, a hypernetwork, inner
learning rates. The survey's axis "meta-optimiser" (2004.05439) of a learner so trained is evolution or reinforcement.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from models.protocol import LearnerError, MetaLearner, Optimiser

Search = Literal["evolution", "cma-es", "reinforce"]
Trainer = Literal["gradient", "evolution", "cma-es", "reinforce"]
AXES: dict[str, Optimiser] = {
    "gradient": "gradient",
    "evolution": "evolution",
    "cma-es": "evolution",
    "reinforce": "reinforcement",
}
"""The survey's word for each."""
_ENCODER = "encoder."


class SearchError(LearnerError):
    """A learner cannot be trained by search as asked."""


class SearchConfig(BaseModel):
    """A generation is one step of training: `population` parameter vectors, all asked the same tasks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    optimiser: Search
    objective: Literal["accuracy", "loss"] = "accuracy"
    """Of the queries: the share answered right, or minus their negative log-likelihood over log way."""
    population: int = Field(default=32, ge=4, le=4096)
    sigma: float = Field(default=0.05, gt=0)
    """Standard deviation of the noise on each parameter; what `cma-es` and `reinforce` begin with."""
    parameters: tuple[str, ...] = ()
    """Names, or what names begin with up to a dot; none means all outside the encoder."""
    over_population: Literal["auto", "vmap", "loop"] = "auto"
    """All of it at once, one after the other, or at once where the method lets torch."""

    @model_validator(mode="after")
    def _whole_pairs(self) -> SearchConfig:
        if self.optimiser == "evolution" and self.population % 2:
            raise ValueError(f"population {self.population}: evolution draws pairs, so it must be even")
        return self


class Subset:
    """Some parameters of a learner as one vector of `size` numbers, in the order of their names."""

    def __init__(self, learner: MetaLearner, parameters: Sequence[str] = ()) -> None:
        """Raises `SearchError` for a name of nothing, and where nothing is left to search."""
        found = {name: p for name, p in learner.named_parameters() if not name.startswith(_ENCODER)}
        for asked in parameters:
            if not any(_within(name, asked) for name in found):
                known = ", ".join(sorted({name.split(".")[0] for name in found})) or "none"
                raise SearchError(f"no parameters {asked!r} outside the encoder; there are: {known}")
        self._parameters = {
            name: found[name]
            for name in sorted(found)
            if not parameters or any(_within(name, asked) for asked in parameters)
        }
        if not self._parameters:
            raise SearchError(
                "the method has no parameters outside its encoder; a search has nothing to move"
            )
        self._sizes = [p.numel() for p in self._parameters.values()]
        self.size = sum(self._sizes)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._parameters)

    def read(self) -> Float[Tensor, "size"]:
        """A copy."""
        return torch.cat([p.detach().flatten() for p in self._parameters.values()])

    @torch.no_grad()
    def write(self, vector: Float[Tensor, "size"]) -> None:
        for parameter, part in zip(self._parameters.values(), vector.split(self._sizes), strict=True):
            parameter.copy_(part.view_as(parameter))

    def split(self, population: Float[Tensor, "n size"]) -> dict[str, Float[Tensor, "n ..."]]:
        """The parameters of each of a population, by name."""
        parts = population.split(self._sizes, dim=1)
        return {
            name: part.unflatten(1, parameter.shape) if parameter.ndim else part[:, 0]
            for (name, parameter), part in zip(self._parameters.items(), parts, strict=True)
        }


def _within(name: str, asked: str) -> bool:
    return name == asked or name.startswith(f"{asked}.")


def trainable_by(learner: MetaLearner) -> tuple[Trainer, ...]:
    """What can train a learner of this make. Search scores the answers of classifiers."""
    headed = any(not name.startswith(_ENCODER) for name, _ in learner.named_parameters())
    if not headed or learner.traits.kind == "regression":
        return ("gradient",)
    return ("gradient", "evolution", "cma-es", "reinforce")


def summary(search: SearchConfig | None, generations: int) -> dict[str, object]:
    """What a learner's description says of the search that made it; nothing where there was none."""
    if search is None:
        return {}
    return {
        "optimiser": search.optimiser,
        "objective": f"query {search.objective}",
        "population": search.population,
        "sigma": search.sigma,
        "evaluations": search.population * generations,
        "searched": ", ".join(search.parameters) or "all outside the encoder",
        "precision": "fp32",
    }


def axis_of(training: Mapping[str, Any]) -> dict[str, str]:
    """The survey's optimiser of a learner whose description says `training`, where that was no gradient."""
    named = training.get("optimiser")
    return {"optimiser": AXES[named]} if isinstance(named, str) and named in AXES else {}
