"""Description of each method, read off its class: summary, paper, axes, ways and shots, hyperparameters.

A method is built without memory, on the meta device, with its default hyperparameters, as some traits depend on them.
"""

from __future__ import annotations

import re
import sys
from functools import cache

from hyperserve.types import Method, SpanOut
from models.protocol import LearnerError, MetaLearner
from models.registry import METHODS, RegistryError, blank_learner
from models.training.search import trainable_by

_ARXIV = re.compile(r"\b\d{4}\.\d{4,5}\b")


@cache
def described() -> dict[str, Method]:
    """Return the description of every method in the order of names; the first call imports them all."""
    return {name: _describe(name) for name in sorted(METHODS)}


def _describe(name: str) -> Method:
    found = METHODS[name]
    text = sys.modules[found.__module__].__doc__ or ""
    head = text.split("\n\n", 1)[0]
    paper = _ARXIV.search(head)
    learner = _built(name)
    traits = learner.traits
    return Method(
        name=name,
        summary=head.splitlines()[0],
        paper=None if paper is None else paper.group(),
        kind=traits.kind,
        representation=traits.representation,
        optimiser=traits.optimiser,
        objective=traits.objective,
        optimisers=list(trainable_by(learner)),
        ways=SpanOut(min=traits.ways.low, max=traits.ways.high),
        shots=SpanOut(min=traits.shots.low, max=traits.shots.high),
        fixed_way=traits.kind == "classification" and traits.ways.low == traits.ways.high,
        flags={flag: value for flag, value in vars(traits).items() if isinstance(value, bool)},
        hparams=found.Config.model_json_schema(),
    )


def _built(name: str) -> MetaLearner:
    """Build a method on pictures, or else on vectors, or else as its trial has it."""
    trial = METHODS[name].trial
    refusals: list[LearnerError] = []
    for encoder, settings in (
        ("conv4", {}),
        ("identity", {"dim": 1}),
        (trial.encoder, trial.encoder_hparams),
    ):
        try:
            return blank_learner(name, {}, encoder, settings)
        except RegistryError:
            raise
        except LearnerError as error:
            refusals.append(error)
    raise RegistryError(f"method {name!r} takes neither pictures nor vectors: {refusals[-1]}")
