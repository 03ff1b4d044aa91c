"""Meta-training without a gradient of the objective: the parameters of a search, its optimiser, its objective.

A search moves a small set of named parameters outside the encoder, which does not change: a head, a hypernetwork, inner
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
"""The survey's term for each optimiser."""
_ENCODER = "encoder."


class SearchError(LearnerError):
    """A learner cannot be trained by this search."""


class SearchConfig(BaseModel):
    """Settings of a search. A generation is one step: `population` parameter vectors, scored on the same tasks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    optimiser: Search
    objective: Literal["accuracy", "loss"] = "accuracy"
    """Fitness: the share of queries answered right, or minus their negative log-likelihood over log way."""
    population: int = Field(default=32, ge=4, le=4096)
    sigma: float = Field(default=0.05, gt=0)
    """Standard deviation of the noise on each parameter; for `cma-es` and `reinforce` the initial one."""
    parameters: tuple[str, ...] = ()
    """Names, or their beginnings up to a dot; none means all outside the encoder."""
    over_population: Literal["auto", "vmap", "loop"] = "auto"
    """Vectors at once, one after the other, or at once if torch can run the method so."""

    @model_validator(mode="after")
    def _whole_pairs(self) -> SearchConfig:
        if self.optimiser == "evolution" and self.population % 2:
            raise ValueError(f"population {self.population} must be even: evolution draws pairs")
        return self


class Subset:
    """Some parameters of a learner as one vector of `size` numbers, in the order of their names."""

    def __init__(self, learner: MetaLearner, parameters: Sequence[str] = ()) -> None:
        """Raise `SearchError` for an unknown name, and if nothing is left to search."""
        found = {name: p for name, p in learner.named_parameters() if not name.startswith(_ENCODER)}
        for prefix in parameters:
            if not any(_within(name, prefix) for name in found):
                known = ", ".join(sorted({name.split(".")[0] for name in found})) or "none"
                raise SearchError(f"no parameters {prefix!r} outside the encoder; there are: {known}")
        self._parameters = {
            name: found[name]
            for name in sorted(found)
            if not parameters or any(_within(name, prefix) for prefix in parameters)
        }
        if not self._parameters:
            raise SearchError(
                "the method has no parameters outside its encoder, so a search has nothing to move"
            )
        self._sizes = [p.numel() for p in self._parameters.values()]
        self.size = sum(self._sizes)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._parameters)

    def read(self) -> Float[Tensor, "size"]:
        """Return a copy of the parameters as one vector."""
        return torch.cat([p.detach().flatten() for p in self._parameters.values()])

    @torch.no_grad()
    def write(self, vector: Float[Tensor, "size"]) -> None:
        for parameter, part in zip(self._parameters.values(), vector.split(self._sizes), strict=True):
            parameter.copy_(part.view_as(parameter))

    def split(self, population: Float[Tensor, "n size"]) -> dict[str, Float[Tensor, "n ..."]]:
        """Return the parameters of each vector of a population, by name."""
        parts = population.split(self._sizes, dim=1)
        return {
            name: part.unflatten(1, parameter.shape) if parameter.ndim else part[:, 0]
            for (name, parameter), part in zip(self._parameters.items(), parts, strict=True)
        }


def _within(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


def trainable_by(learner: MetaLearner) -> tuple[Trainer, ...]:
    """Return the trainers for such a learner. A search scores the answers of classifiers."""
    headed = any(not name.startswith(_ENCODER) for name, _ in learner.named_parameters())
    if not headed or learner.traits.kind == "regression":
        return ("gradient",)
    return ("gradient", "evolution", "cma-es", "reinforce")


def summary(search: SearchConfig | None, generations: int) -> dict[str, object]:
    """Return the entries of a learner's description on the search that made it; none without a search."""
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
    """Return the survey's optimiser by the `training` of a learner's description, unless it was a gradient."""
    named = training.get("optimiser")
    return {"optimiser": AXES[named]} if isinstance(named, str) and named in AXES else {}
