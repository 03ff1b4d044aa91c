"""The protocol of all learners: a support set becomes weights, weights answer queries.

Every method of the field is a `Servable`. Meta-learners make weights with the pure function `adapt`;
stream learners make them by registering data into a version. Shapes are named in the signatures;
`tasks`, `support`, `query`, `way` are padded to the largest of a batch and masked, as tasks differ in way and shot.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int, Shaped
from pydantic import BaseModel
from torch import Tensor, nn

from models.bayes.calibration import Calibration
from models.encoder_protocol import Encoder
from models.errors import ModelError
from models.noise import Noise
from models.predictive import Predictive

Representation = Literal["initialisation", "optimiser", "embedding", "feed-forward", "black-box memory"]
"""The part that is meta-learned: the start of gradient steps, the rule that makes steps, features that a fixed
classifier compares or fits, a network that writes the weights, a network whose state is its knowledge of the task."""
Optimiser = Literal["gradient", "evolution", "reinforcement"]
"""The means of meta-learning."""
Objective = Literal["few-shot", "many-shot", "single-task", "continual"]
"""The goal: tasks of few examples, of many; one task; tasks that come one after the other."""

FIT = "fit"
"""Name of the domain check (`Encoder.familiarity`) among the weights of a task, which serving adds to them."""
FOREIGN = -1
"""Query target of an example whose class is not in the support set."""


class LearnerError(ModelError):
    """The request is beyond what this learner can do."""


class UnsupportedSupportError(LearnerError):
    """The support set has a way, shot or kind that this learner does not take."""


@dataclass(frozen=True)
class Span:
    """Closed range of whole numbers; `high=None` is unbounded."""

    low: int
    high: int | None = None

    def __contains__(self, value: int) -> bool:
        return value >= self.low and (self.high is None or value <= self.high)

    def __str__(self) -> str:
        if self.high is None:
            return f"at least {self.low}"
        return str(self.low) if self.low == self.high else f"{self.low} to {self.high}"

    def nearest(self, value: int) -> int:
        """Return the number of the range that is nearest to `value`."""
        return max(self.low, value if self.high is None else min(value, self.high))

    def among(self, candidates: Sequence[int]) -> tuple[int, ...]:
        """Return the candidates that lie within the range; if none does, the number nearest to the first."""
        return tuple(c for c in candidates if c in self) or (self.nearest(candidates[0]),)


@dataclass(frozen=True)
class Traits:
    """Properties that a method declares. The contract suite (`hyperserve.testing`) tests each flag but `zero_shot`.

    The last three are the axes of the survey (2004.05439).
    """

    ways: Span = Span(2)
    shots: Span = Span(1)
    transductive: bool = False
    """Answers depend on the other queries of the task."""
    stochastic: bool = False
    """Answers can be sampled, which gives them an epistemic part."""
    incremental: bool = False
    """Weights of a task can be continued with more examples: `adapt` takes a prior."""
    order_dependent: bool = False
    """The order of the support set changes the answers."""
    label_equivariant: bool = True
    """Renumbering the classes permutes the answers and changes nothing else."""
    zero_shot: bool = False
    """A task needs no examples: an empty support set has an answer."""
    kind: Literal["classification", "regression"] = "classification"
    """Support targets are class indices, or vectors of numbers."""
    exact_posterior: bool = False
    """The weights have a posterior in closed form: epistemic variance without draws."""
    representation: Representation = "embedding"
    optimiser: Optimiser = "gradient"
    objective: Objective = "few-shot"


@dataclass(frozen=True)
class Trial:
    """A small training in which the contract suite must see a method learn.

    `tasks` are drawn by the suite: 2 to 4 classes of `glyphs` (28×28), `photos` (3×32×32), `vectors` (8 numbers) or
    `axes` (8 numbers, hardly any noise), as far as the method takes them; or `curves`, functions of one number.
    """

    tasks: Literal["glyphs", "photos", "vectors", "axes", "curves"] = "glyphs"
    encoder: str = "conv4"
    encoder_hparams: Mapping[str, object] = field(default_factory=lambda: {"width": 8})
    hparams: Mapping[str, object] = field(default_factory=dict)
    steps: int = 25
    lr: float = 1e-2
    floor: float = 0.7
    """Least score after the training: from 0 at chance to 1, or the share of the variance explained."""


@dataclass(frozen=True)
class Support:
    """A batch of support sets as features, in order. `targets` holds class indices, values, or nothing."""

    features: Float[Tensor, "tasks support *feature"]
    targets: Int[Tensor, "tasks support"] | Float[Tensor, "tasks support target"] | None
    mask: Bool[Tensor, "tasks support"]
    n_way: Int[Tensor, "tasks"]
    class_key: Int[Tensor, "tasks way"]
    """64-bit digests of the class labels, which are the keys of noise. Padding is 0."""
    seed: Int[Tensor, "tasks"]

    @property
    def class_mask(self) -> Bool[Tensor, "tasks way"]:
        return torch.arange(self.class_key.shape[1], device=self.n_way.device) < self.n_way[:, None]

    @classmethod
    def of(
        cls,
        features: Float[Tensor, "tasks support *feature"],
        targets: Tensor | None,
        n_way: Int[Tensor, "tasks"] | None = None,
        mask: Bool[Tensor, "tasks support"] | None = None,
        class_key: Int[Tensor, "tasks way"] | None = None,
        seed: Int[Tensor, "tasks"] | None = None,
    ) -> Support:
        """Fill in what a caller without labels need not care about: full masks, class keys 1..way, seed 0."""
        tasks, device = features.shape[0], features.device
        if n_way is None:
            n_way = torch.zeros(tasks, dtype=torch.long, device=device)
            if targets is not None and not targets.is_floating_point():
                n_way = targets.amax(1) + 1
        if mask is None:
            mask = torch.ones(features.shape[:2], dtype=torch.bool, device=device)
        if class_key is None:
            way = int(n_way.max()) if tasks else 0
            keys = torch.arange(1, way + 1, device=device).expand(tasks, way)
            class_key = keys * (keys <= n_way[:, None])
        if seed is None:
            seed = torch.zeros(tasks, dtype=torch.long, device=device)
        return cls(features, targets, mask, n_way, class_key, seed)


@dataclass(frozen=True)
class TaskWeights:
    """Generated weights of a batch of tasks: tensors per task and tensors per class row.

    The arena pages `rows`, so a 5-way task never costs the slot of a 150-way one. Kernel machines also have `points`
    of the support set, and `coefficients` for each pair of class and point, padded to the most points of a batch.
    """

    task: Mapping[str, Shaped[Tensor, "tasks ..."]]
    rows: Mapping[str, Shaped[Tensor, "tasks way ..."]]
    n_way: Int[Tensor, "tasks"]
    class_key: Int[Tensor, "tasks way"]
    seed: Int[Tensor, "tasks"]
    points: Mapping[str, Shaped[Tensor, "tasks point ..."]] = field(default_factory=dict)
    coefficients: Mapping[str, Shaped[Tensor, "tasks way point ..."]] = field(default_factory=dict)
    n_points: Int[Tensor, "tasks"] | None = None
    """None without points."""

    @property
    def class_mask(self) -> Bool[Tensor, "tasks way"]:
        return torch.arange(self.class_key.shape[1], device=self.n_way.device) < self.n_way[:, None]

    def select(self, index: int) -> TaskWeights:
        """Return the weights of one task of the batch, without padding."""
        way = int(self.n_way[index])
        count = 0 if self.n_points is None else int(self.n_points[index])
        one = slice(index, index + 1)
        return replace(
            self,
            points={name: value[one, :count] for name, value in self.points.items()},
            coefficients={name: value[one, :way, :count] for name, value in self.coefficients.items()},
            n_points=None if self.n_points is None else self.n_points[one],
            task={name: value[one] for name, value in self.task.items()},
            rows={name: value[one, :way] for name, value in self.rows.items()},
            n_way=self.n_way[one],
            class_key=self.class_key[one, :way],
            seed=self.seed[one],
        )

    def to(self, device: torch.device | str) -> TaskWeights:
        return self.map(lambda value: value.to(device))

    def map(self, change: Callable[[Tensor], Tensor]) -> TaskWeights:
        """Return the weights with every tensor changed."""

        def all_of(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {name: change(value) for name, value in values.items()}

        return TaskWeights(
            all_of(self.task),
            all_of(self.rows),
            change(self.n_way),
            change(self.class_key),
            change(self.seed),
            all_of(self.points),
            all_of(self.coefficients),
            None if self.n_points is None else change(self.n_points),
        )


def refuse_prior(prior: TaskWeights | None) -> None:
    """Raise `UnsupportedSupportError` for a prior: what `adapt` does unless the learner is incremental."""
    if prior is not None:
        raise UnsupportedSupportError("this learner takes all examples of a task at once")


@dataclass(frozen=True)
class Episodes:
    """A batch of training or evaluation tasks with raw inputs. Query target `FOREIGN` marks an unknown class.

    `support_y` is None if support sets have no targets: point clouds, conditioning inputs.
    """

    support_x: Float[Tensor, "tasks support *input"]
    support_y: Tensor | None
    support_mask: Bool[Tensor, "tasks support"]
    query_x: Float[Tensor, "tasks query *input"]
    query_y: Tensor
    query_mask: Bool[Tensor, "tasks query"]
    n_way: Int[Tensor, "tasks"]
    unseen: Bool[Tensor, "tasks"]
    """Tasks of classes that the encoder is not trained on: from them the head learns what is new."""
    seed: Int[Tensor, "tasks"] | None = None
    """Key of each task's noise in training; None is 0."""

    def to(self, device: torch.device | str) -> Episodes:
        moved = {name: value.to(device) for name, value in vars(self).items() if value is not None}
        return replace(self, **moved)


@dataclass(frozen=True)
class Losses:
    """Losses per task, unreduced: the trainer decides how tasks are weighed."""

    total: Float[Tensor, "tasks"]
    parts: Mapping[str, Float[Tensor, "tasks"]] = field(default_factory=dict)


class Servable(ABC):
    """The face of a learner that cache, batcher and API see."""

    traits: Traits

    @abstractmethod
    def embed(self, x: Float[Tensor, "n *input"]) -> Float[Tensor, "n *feature"]:
        """Return task-independent features, shared by all tasks; the inputs themselves if everything adapts."""

    @abstractmethod
    def predict(
        self,
        weights: TaskWeights,
        features: Float[Tensor, "tasks query *feature"],
        noise: Noise | None = None,
    ) -> Predictive:
        """Answer each task's own queries. With `noise` a stochastic learner samples."""


class MetaLearner(Servable, nn.Module):
    """Base of few-shot classifiers, regressors, fields and densities: weights come from one pure call.

    Built as `cls(encoder, config)`; `fewshot/common` has the bases `Classifier` and `Regressor`.
    """

    Config: ClassVar[type[BaseModel]]
    """Frozen, extra fields forbidden: the hyperparameters, as they stand in the learner's description."""
    trial: ClassVar[Trial] = Trial()
    encoder: Encoder
    config: BaseModel
    calibration: Calibration | None
    """Fitted on validation tasks after the training; None if the method has nothing to calibrate."""

    def __init__(self, encoder: Encoder, config: BaseModel) -> None:
        super().__init__()
        self.encoder = encoder
        self.config = config
        self.calibration = None

    def embed(self, x: Float[Tensor, "n *input"]) -> Float[Tensor, "n *feature"]:
        features: Tensor = self.encoder(x)
        return features

    @abstractmethod
    def adapt(self, support: Support, prior: TaskWeights | None = None) -> TaskWeights:
        """Make the weights of each task. With `traits.incremental`, adapt(a + b) equals adapt(b, prior=adapt(a)).

        Without it a prior raises `UnsupportedSupportError`: ignored, it would be a wrong answer.
        """

    @abstractmethod
    def loss(self, episodes: Episodes, progress: float) -> Losses:
        """Return the training loss; `progress` in [0, 1] is the share of training done and drives schedules."""

    def select(self, validation_loss: Callable[[], float]) -> dict[str, float]:
        """Choose in place what gradients cannot, after training; return the choice for the learner's card.

        `validation_loss()` measures the learner as it is at the call. By default there is nothing to choose.
        """
        return {}
