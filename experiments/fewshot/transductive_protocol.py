"""The BatchNorm mode in which the MAML family published its figures, as a protocol that is measured but not served.

In it, BatchNorm always uses the statistics of its batch: those of the support set for the support set, and those of
*all queries of the task together* for its queries. A prediction then depends on the other queries, so these figures
do not describe what is served and serve only for comparison with the papers' tables.

Our encoders are trained with statistics of batches of several tasks, and predict with running statistics. For them, the
figure shows the network under statistics that it was not trained with.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from models.encoders.identity import Identity, IdentityConfig
from models.fewshot.common.inner_network import SupportNorm
from models.fewshot.hypermaml import HyperMAML
from models.fewshot.maml import Maml
from models.noise import Noise
from models.predictive import Predictive
from models.protocol import Episodes, LearnerError, Losses, MetaLearner, Support, TaskWeights

NAME = "transductive: BatchNorm statistics of the support set and of all queries of a task (not served)"
_STATISTICS = "statistics."
"""Prefix of the statistics of the support set in the task weights of a network that adapts as a whole."""


class BatchStatistics(nn.Module):
    """BatchNorm by batch statistics, separately for each task of [tasks × n, channels, …]."""

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps
        self.tasks = 1

    def forward(self, x: Float[Tensor, "n channels *space"]) -> Float[Tensor, "n channels *space"]:
        by_task = x.reshape(self.tasks, -1, *x.shape[1:])
        dims = [1, *range(3, by_task.ndim)]
        variance, mean = torch.var_mean(by_task, dims, correction=0, keepdim=True)
        shape = (1, 1, -1, *[1] * (by_task.ndim - 3))
        normal = (by_task - mean) * (variance + self.eps).rsqrt()
        return (normal * self.weight.view(shape) + self.bias.view(shape)).reshape(x.shape)


class Transductive(MetaLearner):
    """A learner of the MAML family under this protocol. Its features are the inputs, since they depend on the batch."""

    def __init__(self, learner: MetaLearner) -> None:
        """Wrap a learner. Raise `LearnerError` for other methods, and for encoders without BatchNorm."""
        super().__init__(Identity(IdentityConfig()), learner.config)
        if not isinstance(learner, Maml | HyperMAML):
            raise LearnerError("the transductive protocol needs a learner of maml, hypermaml or bayeshmaml")
        if not has_batchnorm(learner):
            raise LearnerError("the transductive protocol needs an encoder with BatchNorm")
        self.learner = copy.deepcopy(learner).eval()
        self.traits = replace(learner.traits, transductive=True, stochastic=False)
        self.norms = _with_batch_statistics(self.learner)
        self.whole = isinstance(learner, Maml) and learner.inner is not None

    def embed(self, x: Float[Tensor, "n *input"]) -> Float[Tensor, "n *input"]:
        return x

    def adapt(self, support: Support, prior: TaskWeights | None = None) -> TaskWeights:
        """Adapt to support sets, all of which must be of one size."""
        if self.whole:
            return self.learner.adapt(support, prior)
        if not bool(support.mask.all()):
            raise LearnerError("the transductive protocol needs support sets of one size")
        return self.learner.adapt(replace(support, features=self._features(support.features)), prior)

    def predict(
        self, weights: TaskWeights, features: Float[Tensor, "tasks query *input"], noise: Noise | None = None
    ) -> Predictive:
        if not self.whole:
            return self.learner.predict(weights, self._features(features))
        # A network that adapts as a whole uses batch statistics if it is given none.
        blank = {
            name: value.new_empty(len(value), 0)
            for name, value in weights.task.items()
            if name.startswith(_STATISTICS)
        }
        return self.learner.predict(replace(weights, task={**weights.task, **blank}), features)

    def loss(self, episodes: Episodes, progress: float) -> Losses:
        raise LearnerError("the transductive protocol only measures; it cannot be trained")

    def _features(self, x: Float[Tensor, "tasks n *input"]) -> Float[Tensor, "tasks n *feature"]:
        for norm in self.norms:
            norm.tasks = len(x)
        found: Tensor = self.learner.embed(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return found


def has_batchnorm(learner: MetaLearner) -> bool:
    """Return True if any module of the learner is a BatchNorm."""
    return any(isinstance(module, _BatchNorm | SupportNorm) for module in learner.modules())


def _with_batch_statistics(learner: MetaLearner) -> list[BatchStatistics]:
    """Replace every BatchNorm in place, and return the replacements."""
    found = []
    for parent in list(learner.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, _BatchNorm):
                found.append(BatchStatistics(child))
                setattr(parent, name, found[-1])
    return found
