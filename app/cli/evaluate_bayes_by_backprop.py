"""`hyperserve evaluate bayes-by-backprop`: the variational layers on MNIST, as published."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from app.cli.console import messages
from app.cli.errors import MisuseError
from app.cli.evaluation_command import EvaluationOptions, evaluation
from experiments import bayes_by_backprop as protocol
from experiments.bayes_by_backprop_training import VariationalConfig
from models.data import mnist


@dataclass(frozen=True)
class BayesByBackpropOptions(EvaluationOptions):
    """Options of `hyperserve evaluate bayes-by-backprop`."""

    split: Annotated[
        str | None, typer.Option(help="validation measures on training digits held out, for choices.")
    ] = None


@evaluation("bayes-by-backprop", BayesByBackpropOptions)
def bayes_by_backprop(options: BayesByBackpropOptions) -> dict[str, Any]:
    """Train and measure a network of Gaussian weights on MNIST.

    Prints test error, calibration, entropies and the effect of pruning.
    """
    digits = mnist.load(options.required_data("MNIST as an npz"))
    if options.split == "validation":
        digits = digits.held_out(protocol.HELD_OUT)
    elif options.split is not None:
        raise MisuseError(
            f"bayes-by-backprop has no split {options.split!r}; it has validation, and without --split the test digits"
        )
    return protocol.evaluate(digits, VariationalConfig(seed=options.seed), messages.print)
