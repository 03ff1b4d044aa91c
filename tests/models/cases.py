"""Every learner that the contract binds: what is registered, and the toy of each family that is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from models.bayes.calibration import Calibration
from models.predictive import Categorical, Density, Field, Gaussian, Predictive
from models.protocol import FOREIGN, MetaLearner
from models.registry import METHODS, LearnerConfig, build, input_of
from tests.models import episodes
from tests.models.episodes import Task, queries_of, support_of
from tests.models.toys.cloud import energy_distance

TOYS = {
    "toy-memory": "tests.models.toys.memory:StreamMemory",
    "toy-maml": "tests.models.toys.maml:Maml",
    "toy-field": "tests.models.toys.field:ImageField",
    "toy-cloud": "tests.models.toys.cloud:PointCloud",
    "toy-density": "tests.models.toys.density:AffineFlow",
}


@dataclass(frozen=True)
class Case:
    """A learner, tasks for it, and what it must beat after `steps` of training."""

    method: str
    draw: Callable[[torch.Generator], Task]
    score: Callable[[Predictive, Task], float]
    floor: float
    encoder: str = "identity"
    hparams: dict[str, Any] = field(default_factory=dict)
    encoder_hparams: dict[str, Any] = field(default_factory=dict)
    steps: int = 60
    lr: float = 1e-2

    @property
    def name(self) -> str:
        return "-".join((self.method, self.encoder, *map(str, self.hparams.values())))

    @property
    def config(self) -> LearnerConfig:
        return LearnerConfig(
            code_version="0",
            method=self.method,
            hparams=self.hparams,
            encoder=self.encoder,
            encoder_hparams=self.encoder_hparams,
            input=input_of(self.encoder),
        )

    def learner(self) -> MetaLearner:
        """Untrained, the same each time, in evaluation mode."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            learner = build(self.config).eval()
        if isinstance(calibration := getattr(learner, "calibration", None), Calibration):
            _fill(calibration)
        return learner

    def tasks(self, count: int, seed: int = 0) -> list[Task]:
        rng = torch.Generator().manual_seed(seed)
        return [self.draw(rng) for _ in range(count)]

    def mean_score(self, learner: MetaLearner, tasks: list[Task]) -> float:
        with torch.no_grad():
            answers = learner.predict(learner.adapt(support_of(learner, tasks)), queries_of(learner, tasks))
        scores = [
            self.score(answers.at(index, len(task.query_x), len(task.labels)), task)
            for index, task in enumerate(tasks)
        ]
        return sum(scores) / len(scores)


def _fill(calibration: Calibration) -> None:
    """Some calibration, mild and different for each way and shot, so that all of its parts take part."""
    rng = torch.Generator().manual_seed(2)
    for name in ("temperature", "epistemic", "unknown_weight"):
        vector = getattr(calibration, name)
        vector.copy_(0.1 * torch.randn(vector.shape, generator=rng))
    quantiles = calibration.set_quantiles
    quantiles.copy_(torch.rand(quantiles.shape, generator=rng).cumsum(-1) / quantiles.shape[-1])
    calibration.has_unknown.fill_(True)
    calibration.has_sets.fill_(True)


def advantage(answer: Predictive, task: Task) -> float:
    """Accuracy on known queries, 0 at chance and 1 at best."""
    assert isinstance(answer, Categorical)
    known = task.query_y != FOREIGN
    correct = answer.log_probs[0].argmax(-1)[known] == task.query_y[known]
    chance = 1 / len(task.labels)
    return (float(correct.float().mean()) - chance) / (1 - chance)


def explained(answer: Predictive, task: Task) -> float:
    """Share of the variance explained."""
    assert isinstance(answer, Gaussian | Field)
    value = answer.mean if isinstance(answer, Gaussian) else answer.values
    return 1 - float((value[0] - task.query_y).square().mean() / task.query_y.var(unbiased=False))


def resemblance(answer: Predictive, task: Task) -> float:
    """How much nearer to the true points than base noise is, 1 at best."""
    assert isinstance(answer, Field)
    real = torch.ones(1, len(task.query_x), dtype=torch.bool)
    made = energy_distance(answer.values, task.query_y[None], real)
    return 1 - float(made / energy_distance(task.query_x[None], task.query_y[None], real))


def likelihood(answer: Predictive, task: Task) -> float:
    """Mean log density in nats above that of a Gaussian of the right variances that knows nothing of x."""
    assert isinstance(answer, Density)
    scale = torch.tensor([4.5, 1.5]).sqrt()
    blind = torch.distributions.Normal(torch.zeros(2), scale).log_prob(task.query_y).sum(-1)
    return float((answer.log_prob[0] - blind).mean())


FIXED_WAY = {"hypershot": 3, "bayeshypershot": 3, "hypermaml": 3, "bayeshmaml": 3}
"""Methods that take one number of classes, and the `ways` of their case."""
STEPS = {"bayeshmaml": 50, "maml": 50}
"""Methods that need more than 25 steps."""


def _registered(method: str) -> Case:
    way = FIXED_WAY.get(method)
    return Case(
        method,
        episodes.glyphs if way is None else episodes.fixed(way, episodes.glyphs),
        advantage,
        0.7,
        "conv4",
        hparams={} if way is None else {"ways": way},
        encoder_hparams={"width": 8},
        steps=STEPS.get(method, 25),
    )


CURVES = [
    Case("cnp-regression", episodes.curves, explained, 0.3, hparams={"width": 32}, steps=250, lr=5e-3),
    Case(
        "maml-regression",
        episodes.curves,
        explained,
        0.4,
        hparams={"inner_lr": 0.02, "steps": 2, "learned_rates": True, "rate_per_weight": True},
        steps=150,
    ),
    Case(
        "maml-regression",
        episodes.curves,
        explained,
        0.0,
        hparams={"inner_lr": 0.02, "steps": 3, "order": "first", "multi_step": True},
        steps=100,
        lr=5e-3,
    ),
    Case("bayes-linear", episodes.curves, explained, 0.5, hparams={"width": 32, "features": 16}, steps=150),
]
VALUES = {case.method for case in CURVES}
"""Methods whose tasks are functions."""
MEMORIES = [
    Case(
        "mann",
        episodes.fixed(2, episodes.axes),
        advantage,
        0.5,
        hparams={"ways": 2, "hidden": 32, "slots": 16, "width": 12, "heads": 2},
        encoder_hparams={"dim": 8},
        steps=170,
        lr=2e-2,
    ),
]
STREAMS = {case.method for case in MEMORIES}
"""Methods that must learn to remember first: tasks in which there is little to see."""
REGISTERED = [_registered(method) for method in METHODS if method not in VALUES | STREAMS]
VECTORS = [
    Case("protonet", episodes.vectors, advantage, 0.6, hparams={"metric": metric}, steps=0)
    for metric in ("euclidean", "cosine", "auto")
]
RELATIONS = [
    Case(
        "hypershot",
        episodes.fixed(4, episodes.vectors),
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
        episodes.fixed(3, episodes.glyphs),
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
        episodes.fixed(3, episodes.vectors),
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
        episodes.photos,
        advantage,
        0.7,
        "conv4-rgb",
        hparams={"metric": "euclidean"},
        encoder_hparams={"widths": [4, 4, 4, 4], "mirrored": True},
        steps=4,
    ),
]
FAMILIES = [
    Case("toy-memory", episodes.vectors, advantage, 0.6),
    Case("toy-maml", episodes.vectors, advantage, 0.6),
    Case("toy-field", episodes.images, explained, 0.2, steps=300, lr=3e-3),
    Case("toy-cloud", episodes.clouds, resemblance, 0.5, steps=150),
    Case("toy-density", episodes.densities, likelihood, 0.3, steps=200),
]
CASES = REGISTERED + MEMORIES + CURVES + VECTORS + RELATIONS + GRADIENTS + FAST_WEIGHTS + COLOUR + FAMILIES
CLASSIFIERS = [case for case in CASES if case.score is advantage]
