"""MANN's own table (Santoro et al. 2016, 1605.06065): accuracy at the first, second, … example of a class.

A sequence has 10 examples of each of the learner's `ways` classes in random order, and each example is classified
before its label is revealed. Test characters and their rotations are classes; labels are drawn anew for each
sequence. The first example of a class can only be guessed, though better than by chance if labels already in use are
ruled out.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from experiments.errors import ExperimentError
from experiments.fewshot.table_rows import EvaluationPlan
from models.data.dataset import ClassDataset, model_input
from models.evaluation.episodic import Cell, Features, draw, embed_all
from models.evaluation.scores import MeanEstimate
from models.fewshot.mann import Mann, shuffled
from models.inputs import InputSpec
from models.protocol import MetaLearner, Support

EXAMPLES = 10
INSTANCES = (1, 2, 3, 4, 5, 10)
"""Instances whose accuracy is published."""
_SEQUENCES_PER_BATCH = 50


def evaluate(
    learner: MetaLearner, spec: InputSpec, test: ClassDataset, plan: EvaluationPlan
) -> dict[str, Any]:
    """Return the table of one learner. Raise `ExperimentError` if its method is not mann."""
    if not isinstance(learner, Mann):
        raise ExperimentError("accuracy by instance needs a learner of method mann")
    turned = test.rotations()
    features = embed_all(learner, model_input(turned, spec), turned.labels, turned.domains)
    found = by_instance(learner, features, plan.tasks, plan.seed)
    return {
        "protocol": f"{learner.config.ways} classes × {EXAMPLES} examples in random order, labels one step late; "
        "characters of Vinyals' test split with rotations as classes",
        "classes": len(features.members),
        "streams": plan.tasks,
        "seed": plan.seed,
        "instances": [
            {"instance": number, "accuracy": asdict(MeanEstimate.over(found[:, number - 1]))}
            for number in INSTANCES
        ],
    }


@torch.no_grad()
def by_instance(
    learner: Mann, features: Features, streams: int, seed: int
) -> Float[Tensor, "streams examples"]:
    """Return, for each sequence, the share of classes predicted correctly at their first, second, … example."""
    cell = Cell(learner.config.ways, EXAMPLES, queries=0)
    rng = np.random.default_rng((seed, cell.way, EXAMPLES))
    learner = learner.eval()
    found = []
    for start in range(0, streams, _SEQUENCES_PER_BATCH):
        count = min(_SEQUENCES_PER_BATCH, streams - start)
        support = torch.from_numpy(np.stack([draw(rng, features, cell)[1] for _ in range(count)]))
        y = torch.arange(cell.way).repeat_interleave(EXAMPLES).expand(count, -1)
        seeds = torch.arange(start, start + count) + 1_000_003 * seed
        stream = shuffled(Support.of(features.values[support], y, seed=seeds), in_blocks=0.0)
        found.append(instances_right(learner.follow(stream)[1], stream))
    return torch.cat(found)


def instances_right(
    logits: Float[Tensor, "streams steps way"], stream: Support
) -> Float[Tensor, "streams examples"]:
    """Return the accuracy over classes at each of their examples, given sequences with equally many of every class."""
    assert stream.targets is not None
    way = logits.shape[-1]
    right = (logits.argmax(-1) == stream.targets).to(logits)
    # A stable sort keeps the examples of a class in their order in the sequence.
    by_class = stream.targets.argsort(dim=-1, stable=True)
    return right.gather(1, by_class).view(len(right), way, -1).mean(1)
