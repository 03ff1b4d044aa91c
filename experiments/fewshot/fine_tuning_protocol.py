"""The papers' "+ finetune" and "+ adaptation" of a whole model, as a protocol that is measured but not served.

For each task, Adam fine-tunes a copy of all parameters, encoder included, on the loss of the support set, and the tuned
model adapts and predicts as usual. Serving it would need a whole model per task; HyperShot serves `finetune_steps`
instead, which tune its hypernetwork only. BatchNorm keeps its running statistics, so predictions stay inductive, while
the authors' code uses batch statistics.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from models.encoders.identity import Identity, IdentityConfig
from models.fewshot.bayeshmaml import BayesHMAML
from models.fewshot.bayeshypershot import BayesHyperShot
from models.fewshot.common.fine_tuning import joined_weights, single_tasks, support_loss, tuned
from models.fewshot.common.inner_loop import FastWeights
from models.fewshot.hypermaml import HyperMAML
from models.fewshot.hypershot import HyperShot
from models.noise import Noise
from models.predictive import Categorical
from models.protocol import Episodes, LearnerError, Losses, MetaLearner, Support, TaskWeights

PUBLISHED_LR = 1e-4
_MODEL = "model."
_METHODS = HyperShot, BayesHyperShot, HyperMAML, BayesHMAML


class _LearnerModule(nn.Module):
    """The steps of a learner as one module, so that `functional_call` can replace its parameters."""

    def __init__(self, learner: MetaLearner) -> None:
        super().__init__()
        self.learner = learner

    def forward(
        self, support: Support, query: Float[Tensor, "1 m *input"] | None
    ) -> TaskWeights | Categorical:
        """Return task weights or, given queries, predictions."""
        weights = self.learner.adapt(replace(support, features=self._embedded(support.features)))
        if query is None:
            return weights
        answer = self.learner.predict(weights, self._embedded(query))
        assert isinstance(answer, Categorical)
        return answer

    def _embedded(self, x: Float[Tensor, "1 m *input"]) -> Float[Tensor, "1 m *feature"]:
        return self.learner.embed(x[0])[None]


class FineTuned(MetaLearner):
    """A hypernetwork learner under this protocol. Its features are the inputs, since each task has its own encoder."""

    def __init__(self, learner: MetaLearner, steps: int, lr: float = PUBLISHED_LR) -> None:
        """Wrap a learner. Raise `LearnerError` for methods whose papers report no such figure."""
        super().__init__(Identity(IdentityConfig()), learner.config)
        if not isinstance(learner, _METHODS):
            raise LearnerError(
                "this protocol needs a learner of hypershot, hypermaml, bayeshypershot or bayeshmaml"
            )
        self.module = _LearnerModule(learner.eval())
        self.steps, self.lr = steps, lr
        self.traits = replace(learner.traits, stochastic=False)

    def embed(self, x: Float[Tensor, "n *input"]) -> Float[Tensor, "n *input"]:
        return x

    def adapt(self, support: Support, prior: TaskWeights | None = None) -> TaskWeights:
        """Return, for each task, its fine-tuned model and the task weights made by it."""
        start: FastWeights = dict(self.module.named_parameters())
        found = []
        for one in single_tasks(support):

            def loss(fast: FastWeights, one: Support = one) -> Tensor:
                return support_loss(functional_call(self.module, fast, (one, one.features)), one)

            fast = tuned(start, loss, self.steps, self.lr)
            weights = functional_call(self.module, fast, (one, None))
            model = {_MODEL + name: value[None] for name, value in fast.items()}
            found.append(replace(weights, task={**weights.task, **model}))
        return joined_weights(found)

    def predict(
        self, weights: TaskWeights, features: Float[Tensor, "tasks query *input"], noise: Noise | None = None
    ) -> Categorical:
        answers = []
        for task, query in enumerate(features):
            one = weights.select(task)
            learner = self.module.learner
            model = {
                name.removeprefix(f"{_MODEL}learner."): value[0]
                for name, value in one.task.items()
                if name.startswith(_MODEL)
            }
            encoder = {
                name.removeprefix("encoder."): v for name, v in model.items() if name.startswith("encoder.")
            }
            assert isinstance(learner.encoder, nn.Module)
            embedded = functional_call(learner.encoder, encoder, (query,))[None]
            answer = learner.predict(one, embedded)
            assert isinstance(answer, Categorical)
            answers.append(answer)
        return Categorical(torch.cat([one.log_probs for one in answers]))

    def loss(self, episodes: Episodes, progress: float) -> Losses:
        raise LearnerError("the fine-tuning protocol only measures; it cannot be trained")
