"""What is to be known of each method, read off its class: summary, paper, axes, ways and shots, hyperparameters.

A method is built without memory on the meta device, with its default hyperparameters, since some traits depend on
them. All methods are imported for it.
"""

from __future__ import annotations

import re
import sys
from functools import cache

import torch

from hyperserve.types import Method, SpanOut
from models.encoders.base import Encoder
from models.protocol import LearnerError, MetaLearner
from models.registry import ENCODERS, METHODS
from models.training.search import trainable_by

_ARXIV = re.compile(r"\b\d{4}\.\d{4,5}\b")
_ENCODERS: tuple[tuple[str, dict[str, object]], ...] = (("conv4", {}), ("identity", {"dim": 1}))


@cache
def described() -> dict[str, Method]:
    """Every method by its name, in the order of names; the first call imports them all."""
    return {name: _describe(name) for name in sorted(METHODS)}


def _describe(name: str) -> Method:
    found = METHODS[name]
    text = sys.modules[found.__module__].__doc__ or ""
    head = text.split("\n\n", 1)[0]
    paper = _ARXIV.search(head)
    learner = _built(found)
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


def _built(found: type[MetaLearner]) -> MetaLearner:
    """On pictures, or else on vectors. Raises `LearnerError` where the method takes neither."""
    for name, hparams in _ENCODERS:
        encoder: type[Encoder]
        encoder, config = ENCODERS.configured(name, hparams)
        try:
            with torch.device("meta"):
                return found(encoder(config), found.Config())
        except LearnerError as error:
            refusal = error
    raise refusal
