"""The reference for epistemic uncertainty: answers to the same queries with other support sets of the same classes.

For each query, D is the Jensen-Shannon disagreement of the mean predictions under 20 other support sets. A learner
with the right epistemic part predicts it without seeing them: E[D] = E[MI] at each shot, and both rank queries alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from models.evaluation.episodic import SAMPLES, Cell, Features, draw
from models.noise import Noise
from models.predictive import Categorical, categorical_entropy
from models.protocol import MetaLearner, Support

REDRAWS = 20


@dataclass(frozen=True)
class Disagreement:
    """Per query, flat: disagreement D and the learner's own epistemic part, in nats."""

    disagreement: Float[Tensor, "n"]
    epistemic: Float[Tensor, "n"]
    terms: Float[Tensor, "tasks terms"]
    """Terms of the calibration of each task; none if the learner has no such calibration."""


@torch.no_grad()
def disagreement(learner: MetaLearner, features: Features, cell: Cell, tasks: int, seed: int) -> Disagreement:
    """Measure disagreement on `cell.queries` queries per class, held out of every support set drawn for them."""
    rng = np.random.default_rng((seed, cell.way, cell.shot, 77))
    noise = Noise(SAMPLES) if learner.traits.stochastic else None
    reference, own, terms = [], [], []
    for task in range(tasks):
        classes, _, query = draw(rng, features, cell)
        held_out = {int(index) for index in query}
        rest = [np.array([m for m in features.members[c] if m not in held_out]) for c in classes]
        drawn = [
            np.concatenate([rng.choice(members, cell.shot, replace=False) for members in rest])
            for _ in range(REDRAWS + 1)
        ]
        support = features.values[torch.from_numpy(np.stack(drawn))]
        targets = torch.arange(cell.way).repeat_interleave(cell.shot).expand(REDRAWS + 1, -1)
        seeds = torch.arange(REDRAWS + 1) + task * 1009
        weights = learner.adapt(Support.of(support, targets, seed=seeds))
        queries = features.values[torch.from_numpy(query)].expand(REDRAWS + 1, -1, -1)
        answer = learner.predict(weights, queries, noise)
        if not isinstance(answer, Categorical) or answer.epistemic is None:
            raise TypeError(f"{type(learner).__name__} has no epistemic part")
        reference.append(_jensen_shannon(answer.log_probs[1:]))
        own.append(answer.epistemic[0])
        terms.append(weights.task.get("terms", support.new_zeros(1, 0))[:1])
    return Disagreement(torch.cat(reference), torch.cat(own), torch.cat(terms))


def _jensen_shannon(log_probs: Float[Tensor, "members query way"]) -> Float[Tensor, "query"]:
    """Entropy of the mean minus mean entropy, × m/(m−1) as for any plug-in estimate of it from m members."""
    mixed = categorical_entropy(log_probs.exp().mean(0).clamp_min(1e-30).log())
    spread = mixed - categorical_entropy(log_probs).mean(0)
    return spread.clamp_min(0) * len(log_probs) / (len(log_probs) - 1)
