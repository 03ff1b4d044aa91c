"""Bytes of task weights and times of adaptation and prediction, for every registered method that runs on Conv-4."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from benchmarks.family.interleaved_timing import Contender, take_turns
from benchmarks.family.random_tasks import WAY, labels, learner_of, pictures
from models.noise import Noise
from models.protocol import LearnerError, MetaLearner, Support, TaskWeights
from models.registry import METHODS
from models.weights import nbytes

SHOTS, BATCH, SAMPLES = 5, 64, 32
BASE = "protonet"
VARIANTS: dict[str, tuple[str, dict[str, object]]] = {
    "maml, whole network": ("maml", {"adapts": "all"}),
}
"""Variants measured beside the defaults of each method."""


@dataclass(frozen=True)
class Cost:
    """Times from images to weights and from an image to its prediction: CPU time as multiples of ProtoNet's."""

    method: str
    bytes_of_weights: int
    adapt: float
    adapt_each_of_batch: float
    predict: float
    predict_each_of_batch: float
    adapt_ms: float
    predict_ms: float
    rounds: int


def costs(rounds: int, most_seconds: float) -> tuple[list[Cost], dict[str, str]]:
    """Return the costs of every method, and the reasons for those left out."""
    found, left_out = [], {}
    base = learner_of(BASE).eval()
    for name, (method, hparams) in {**{name: (name, {}) for name in METHODS}, **VARIANTS}.items():
        try:
            learner = learner_of(method, **hparams).eval()
            if learner.traits.kind != "classification" or WAY not in learner.traits.ways:
                left_out[name] = f"{learner.traits.kind}, {learner.traits.ways} classes"
                continue
        except LearnerError as error:
            left_out[name] = str(error)
            continue
        found.append(_cost(name, learner, base, rounds, most_seconds))
    return found, left_out


def _cost(name: str, learner: MetaLearner, base: MetaLearner, rounds: int, most_seconds: float) -> Cost:
    times, ms = {}, {}
    for tasks in (1, BATCH):
        pair = (_contenders(learner, tasks), _contenders(base, tasks))
        for step in ("adapt", "predict"):
            turns = take_turns({"own": pair[0][step], "base": pair[1][step]}, rounds, most_seconds)
            times[step, tasks] = round(turns.times("own", "base")[0], 2)
            ms[step, tasks] = round(1e3 * turns.cpu("own"), 2)
    with torch.no_grad():
        weights_bytes = nbytes(_weights(learner, 1))
    return Cost(
        name,
        weights_bytes,
        times["adapt", 1],
        times["adapt", BATCH],
        times["predict", 1],
        times["predict", BATCH],
        ms["adapt", 1],
        ms["predict", 1],
        turns.n,
    )


def _contenders(learner: MetaLearner, tasks: int) -> dict[str, Contender]:
    with torch.no_grad():
        weights = _weights(learner, tasks)
    query = pictures(tasks, seed=2)
    noise = Noise(SAMPLES) if learner.traits.stochastic else None

    @torch.no_grad()
    def predict() -> object:
        return learner.predict(weights, learner.embed(query)[:, None], noise)

    @torch.no_grad()
    def adapt() -> object:
        return _weights(learner, tasks)

    return {"adapt": adapt, "predict": predict}


def _weights(learner: MetaLearner, tasks: int) -> TaskWeights:
    features = learner.embed(pictures(tasks * WAY * SHOTS))
    support = features.view(tasks, WAY * SHOTS, *features.shape[1:])
    return learner.adapt(Support.of(support, labels(tasks, SHOTS)))
