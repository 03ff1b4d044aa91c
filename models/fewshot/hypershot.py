"""HyperShot (Sendera et al. 2022, 2203.11378): relations between supports become a classifier of relations.

Supports are averaged per class, s_c = mean f(x), and a hypernetwork reads only their kernel matrix,

    C_ij = 1 − cos(s_i, s_j)   (cosine distance, as in the authors' code; the diagonal included),

flattened row by row: a neck and one head per target tensor. It writes a small MLP from the relations of an example to
the supports, r_j(x) = 1 − cos(f(x), s_j), to logits, whose weights are used exactly as generated. Trained by
cross-entropy of support and query together.

The length of the input fixes the way N; averaging leaves the shots free. C and r are read in an order of the
classes, and another order gives other answers. Here the order is that of the class keys (digests of the labels),
independent of the order in which a client lists them, and answers are the mean over N turns of it, in which every
class is once at every place. Renaming a class may still move an answer a little.

"+ finetune" (`finetune_steps`): a copy of the hypernetwork moves down the support loss of a task before it writes, so
that task weights are as small as without; the encoder does not move. The paper moves the whole model; `hyperserve
evaluate --finetune` measures that.

Task weights: the target tensors, one set per order, turned so that they read and write class rows; and per class row
the unit vector of its support mean, which the tensors need. Deterministic: there is no epistemic part. `unknown` is
read off the distance to the nearest support, once that is calibrated.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from models.bayes.calibration import task_terms
from models.encoder_protocol import Encoder
from models.fewshot.common.class_order import refuse_other_ways, turns
from models.fewshot.common.classification import (
    Classifier,
    EmbeddedEpisodes,
    class_sums,
    cross_entropy,
    embed_episodes,
)
from models.fewshot.common.fine_tuning import joined_weights, single_tasks, support_loss, tuned
from models.fewshot.common.inner_loop import FastWeights
from models.fewshot.common.magnitudes import unit_vectors
from models.hypernets.tensor_heads import TensorHeads
from models.noise import Noise
from models.predictive import Categorical
from models.protocol import (
    Episodes,
    Losses,
    Span,
    Support,
    TaskWeights,
    Traits,
    Trial,
    refuse_prior,
)

_MOST_HIDDEN = 1 << 24
"""Numbers of one hidden layer [tasks, orders, query, hidden]; more queries are answered in parts."""
_FINETUNE_LR = 1e-4


class HyperShotConfig(BaseModel):
    """Defaults are the published settings for characters (Omniglot → EMNIST)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ways: int = Field(default=5, ge=2, le=100)
    """Number of classes of every task."""
    hidden: int = Field(default=512, ge=1, le=4096)
    """Width of neck and heads."""
    neck: int = Field(default=1, ge=0, le=8)
    head: int = Field(default=2, ge=1, le=8)
    """Linear layers of the neck, and of each head."""
    target_hidden: int = Field(default=128, ge=1, le=1024)
    target_depth: int = Field(default=2, ge=1, le=8)
    train_on_support: bool = True
    orders: int | None = Field(default=None, ge=1)
    """Number of class orders that answers are averaged over; None is all `ways` turns."""
    finetune_steps: int | None = Field(default=None, ge=1, le=100)
    """Steps down the support loss, with a copy of the hypernetwork for each task, before it writes; None is none."""
    finetune_lr: float | None = Field(default=None, gt=0)
    """Learning rate of Adam; None is 1e-4, as published."""

    @model_validator(mode="after")
    def _orders_are_turns(self) -> HyperShotConfig:
        if self.orders is not None and self.orders > self.ways:
            raise ValueError(f"{self.ways} classes have {self.ways} turns, not {self.orders}")
        return self


class HyperShot(Classifier):
    Config = HyperShotConfig
    trial = Trial(hparams={"ways": 3})
    config: HyperShotConfig

    def __init__(self, encoder: Encoder, config: HyperShotConfig) -> None:
        super().__init__(encoder, config)
        self.traits = Traits(ways=Span(config.ways, config.ways), representation="feed-forward")
        self.hypernet = TensorHeads(config.ways**2, self._written(), config.hidden, config.neck, config.head)

    def _written(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the tensors that the hypernetwork writes, those of the target network."""
        config = self.config
        widths = [config.ways, *[config.target_hidden] * (config.target_depth - 1), config.ways]
        shapes: dict[str, tuple[int, ...]] = {}
        for layer, (enter, leave) in enumerate(pairwise(widths)):
            shapes |= {f"weight{layer}": (leave, enter), f"bias{layer}": (leave,)}
        return shapes

    def adapt(self, support: Support, prior: TaskWeights | None = None) -> TaskWeights:
        refuse_prior(prior)
        orders, steps = self.config.orders or self.config.ways, self.config.finetune_steps
        refuse_other_ways(support, self.config.ways)
        if steps is None:
            # One by one: a product with other rows beside a task's rounds differently, and logits magnify that.
            return joined_weights([self._adapt(one, orders) for one in single_tasks(support)])
        start: FastWeights = dict(self.hypernet.named_parameters())
        found = []
        for one in single_tasks(support):

            def loss(fast: FastWeights, one: Support = one) -> Tensor:
                return support_loss(self.predict(self._adapt(one, orders, fast), one.features), one)

            fast = tuned(start, loss, steps, self.config.finetune_lr or _FINETUNE_LR)
            found.append(self._adapt(one, orders, fast))
        return joined_weights(found)

    def _adapt(self, support: Support, orders: int, fast: FastWeights | None = None) -> TaskWeights:
        """Make task weights; `fast` replaces the parameters of the hypernetwork."""
        refuse_other_ways(support, self.config.ways)
        sums, shots = class_sums(support, support.features)
        rows = unit_vectors(sums / shots.clamp_min(1)[..., None])
        order = turns(support.class_key, orders)
        kernel = 1 - rows @ rows.transpose(1, 2)
        kernel = torch.take_along_dim(kernel[:, None], order[..., None], 2)
        kernel = torch.take_along_dim(kernel, order[:, :, None], 3)
        tensors = functional_call(self.hypernet, fast or {}, (kernel.flatten(2),))
        return TaskWeights(
            task={**self._by_row(tensors, order.argsort(-1)), "terms": task_terms(support.n_way, shots)},
            rows={"support": rows},
            n_way=support.n_way,
            class_key=support.class_key,
            seed=support.seed,
        )

    def predict(
        self, weights: TaskWeights, features: Float[Tensor, "tasks query d"], noise: Noise | None = None
    ) -> Categorical:
        terms = weights.task["terms"]
        relations = 1 - unit_vectors(features) @ weights.rows["support"].transpose(1, 2)
        tasks, orders = weights.task["weight0"].shape[:2]
        part = max(1, _MOST_HIDDEN // max(1, tasks * orders * self.config.target_hidden))
        sharpness = self.calibration.inverse_temperature(terms)[:, None, None, None]
        members = [
            (self._logits(weights, some) * sharpness).log_softmax(-1).logsumexp(1) - math.log(orders)
            for some in relations.split(part, dim=1)
        ]
        novelty = relations.amin(-1)
        return Categorical(
            torch.cat(members, dim=1),
            unknown=self.calibration.unknown(novelty, terms),
            set_levels=self.calibration.set_levels(terms),
            novelty=novelty,
        )

    def loss(self, episodes: Episodes, progress: float) -> Losses:
        """Return the mean cross-entropy, in nats, over known queries and, as published, the averaged supports.

        One order of the classes: that of the episode, which is random.
        """
        embedded = embed_episodes(self.embed, episodes)
        total, nll = self._fit(self._adapt(embedded.support, orders=1), embedded)
        return Losses(total, {"nll": nll.detach()})

    def _fit(
        self, weights: TaskWeights, embedded: EmbeddedEpisodes
    ) -> tuple[Float[Tensor, "tasks"], Float[Tensor, "tasks"]]:
        """Return the loss, and that of the queries alone."""
        rows = weights.rows["support"]
        examples = torch.cat((rows, unit_vectors(embedded.query)), dim=1)
        logits = self._training_logits(weights, 1 - examples @ rows.transpose(1, 2))[:, 0]
        own = torch.arange(self.config.ways, device=rows.device).expand(rows.shape[:2])
        target = torch.cat((own, embedded.target), dim=1)
        of_support = torch.full_like(own, self.config.train_on_support, dtype=torch.bool)
        log_probs = logits.log_softmax(-1)
        total = cross_entropy(log_probs, target, torch.cat((of_support, embedded.known), dim=1))
        nll = cross_entropy(log_probs[:, self.config.ways :], embedded.target, embedded.known)
        return total, nll

    def _training_logits(
        self, weights: TaskWeights, relations: Float[Tensor, "tasks query way"]
    ) -> Float[Tensor, "tasks orders query way"]:
        return self._logits(weights, relations)

    def _logits(
        self, weights: TaskWeights, relations: Float[Tensor, "tasks query way"]
    ) -> Float[Tensor, "tasks orders query way"]:
        """Run the generated network of each order on the relations."""
        x = relations[:, None]
        for layer in range(self.config.target_depth):
            x = F.relu(x) if layer else x
            weight, bias = weights.task[f"weight{layer}"], weights.task[f"bias{layer}"]
            x = x @ weight.transpose(-1, -2) + bias[..., None, :]
        return x

    def _by_row(
        self, tensors: dict[str, Tensor], place: Int[Tensor, "tasks orders way"]
    ) -> dict[str, Tensor]:
        """Move columns of the first layer and rows of the last from places in the order to class rows."""
        turned, last = dict(tensors), self.config.target_depth - 1
        turned["weight0"] = torch.take_along_dim(turned["weight0"], place[:, :, None], 3)
        for name, index in ((f"weight{last}", place[..., None]), (f"bias{last}", place)):
            turned[name] = torch.take_along_dim(turned[name], index, 2)
        return turned
