"""Every learner that the contract binds: what is registered, and the toy of each family that is not."""

from __future__ import annotations

import torch

from models.predictive import Density, Field, Predictive
from models.registry import METHODS
from models.testing import tasks
from models.testing.case import Case, advantage, explained
from models.testing.tasks import Task
from tests.models.toys import tasks as toy_tasks
from tests.models.toys.cloud import energy_distance

TOYS = {
    "toy-memory": "tests.models.toys.memory:StreamMemory",
    "toy-maml": "tests.models.toys.maml:Maml",
    "toy-field": "tests.models.toys.field:ImageField",
    "toy-cloud": "tests.models.toys.cloud:PointCloud",
    "toy-density": "tests.models.toys.density:AffineFlow",
}


def resemblance(answer: Predictive, task: Task) -> float:
    """Return how much nearer to the true points than base noise the answer is, 1 at best."""
    assert isinstance(answer, Field)
    real = torch.ones(1, len(task.query_x), dtype=torch.bool)
    made = energy_distance(answer.values, task.query_y[None], real)
    return 1 - float(made / energy_distance(task.query_x[None], task.query_y[None], real))


def likelihood(answer: Predictive, task: Task) -> float:
    """Return the mean log density in nats above that of a Gaussian of the right variances that knows nothing of x."""
    assert isinstance(answer, Density)
    scale = torch.tensor([4.5, 1.5]).sqrt()
    blind = torch.distributions.Normal(torch.zeros(2), scale).log_prob(task.query_y).sum(-1)
    return float((answer.log_prob[0] - blind).mean())


REGISTERED = [Case.of(method) for method in METHODS]
"""Each method by its own trial, whoever registers it."""
FIRST_ORDER = [
    Case(
        "maml-regression",
        tasks.curves,
        explained,
        0.0,
        hparams={"inner_lr": 0.02, "steps": 3, "order": "first", "multi_step": True},
        steps=100,
        lr=5e-3,
    ),
]
VECTORS = [
    Case("protonet", tasks.vectors, advantage, 0.6, hparams={"metric": metric}, steps=0)
    for metric in ("euclidean", "cosine", "auto")
]
RELATIONS = [
    Case(
        "hypershot",
        tasks.fixed(4, tasks.vectors),
        advantage,
        0.5,
        hparams={
            "ways": 4,
            "hidden": 32,
            "neck": neck,
            "head": head,
            "target_depth": depth,
            "orders": orders,
        },
        steps=60,
    )
    for neck, head, depth, orders in ((0, 1, 1, 1), (2, 3, 3, 4))
]
GRADIENTS = [
    Case(
        "maml",
        tasks.fixed(3, tasks.glyphs),
        advantage,
        0.5,
        "conv4",
        hparams={"ways": 3, "adapts": "all", "learned_rates": True, "multi_step": True, "steps": 2},
        encoder_hparams={"width": 4},
        steps=6,
        lr=2e-2,
    ),
]
FAST_WEIGHTS = [
    Case(
        "metanet",
        tasks.fixed(3, tasks.vectors),
        advantage,
        0.5,
        hparams={"ways": 3, "width": 16},
        encoder_hparams={"dim": 8},
        steps=60,
        lr=2e-2,
    ),
]
COLOUR = [
    Case(
        "protonet",
        tasks.photos,
        advantage,
        0.7,
        "conv4-rgb",
        hparams={"metric": "euclidean"},
        encoder_hparams={"widths": [4, 4, 4, 4], "mirrored": True},
        steps=4,
    ),
]
FAMILIES = [
    Case("toy-memory", tasks.vectors, advantage, 0.6),
    Case("toy-maml", tasks.vectors, advantage, 0.6),
    Case("toy-field", toy_tasks.images, explained, 0.2, steps=300, lr=3e-3),
    Case("toy-cloud", toy_tasks.clouds, resemblance, 0.5, steps=150),
    Case("toy-density", toy_tasks.densities, likelihood, 0.3, steps=200),
]
CASES = REGISTERED + FIRST_ORDER + VECTORS + RELATIONS + GRADIENTS + FAST_WEIGHTS + COLOUR + FAMILIES
