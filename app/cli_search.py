"""What `hyperserve train` is told of a search: options, and the part of the recipe that they make."""

from __future__ import annotations

from typing import Annotated, Any

import typer

Optimiser = Annotated[
    str, typer.Option(help="gradient, or a search outside the encoder: evolution, cma-es, reinforce.")
]
Objective = Annotated[
    str, typer.Option(help="Of a search: accuracy of the queries, or loss, which is minus that.")
]
Population = Annotated[int, typer.Option(help="Of a search: parameter vectors of a step.")]
Sigma = Annotated[float, typer.Option(help="Of a search: standard deviation of their noise.")]
Searched = Annotated[
    list[str] | None,
    typer.Option(help="Of a search: name of parameters; all outside the encoder if not given."),
]


def search(
    optimiser: str, objective: str, population: int, sigma: float, searched: list[str] | None
) -> dict[str, Any] | None:
    """`Recipe.search`: none for gradient descent."""
    if optimiser == "gradient":
        return None
    return {
        "optimiser": optimiser,
        "objective": objective,
        "population": population,
        "sigma": sigma,
        "parameters": tuple(searched or ()),
    }
