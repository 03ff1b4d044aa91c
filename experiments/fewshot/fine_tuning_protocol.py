"""The papers' "+ finetune" and "+ adaptation" of a whole model, as a protocol with a name; nothing serves it.

For each task a copy of all parameters, encoder included, moves down the loss of the support set by Adam, and the moved
model then adapts and answers as ever. A task would have to keep a model of its own, so this is for measuring alone;
what HyperShot serves is `finetune_steps`, which moves its hypernetwork only. BatchNorm keeps its running statistics:
answers stay inductive, where the authors' code trains on in batch statistics.
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
from models.fewshot.common.fine_tuning import FastWeights, each, support_loss, together, tuned
from models.fewshot.hypermaml import HyperMAML
from models.fewshot.hypershot import HyperShot
from models.noise import Noise
from models.predictive import Categorical
from models.protocol import Episodes, LearnerError, Losses, MetaLearner, Support, TaskWeights

PUBLISHED_LR = 1e-4
_MODEL = "model."
_METHODS = HyperShot, BayesHyperShot, HyperMAML, BayesHMAML


class _Calls(nn.Module):
    """The learner's steps as one forward, so that any parameters can stand in for its own."""

    def __init__(self, learner: MetaLearner) -> None:
        super().__init__()
        self.learner = learner

    def forward(
        self, support: Support, query: Float[Tensor, "1 m *input"] | None
    ) -> TaskWeights | Categorical:
        """Task weights; with queries, the answers to them."""
        weights = self.learner.adapt(replace(support, features=self._embedded(support.features)))
        if query is None:
            return weights
        answer = self.learner.predict(weights, self._embedded(query))
        assert isinstance(answer, Categorical)
        return answer

    def _embedded(self, x: Float[Tensor, "1 m *input"]) -> Float[Tensor, "1 m *feature"]:
        return self.learner.embed(x[0])[None]


class FineTuned(MetaLearner):
    """A hypernetwork learner under this protocol; its features are the inputs, since each task has its own encoder.

    Raises `LearnerError` for methods whose papers have no such figure.
    """

    def __init__(self, learner: MetaLearner, steps: int, lr: float = PUBLISHED_LR) -> None:
        super().__init__(Identity(IdentityConfig()), learner.config)
        if not isinstance(learner, _METHODS):
            raise LearnerError("fine-tuning is measured of hypershot, hypermaml and their Bayesian kin alone")
        self.calls = _Calls(learner.eval())
        self.steps, self.lr = steps, lr
        self.traits = replace(learner.traits, stochastic=False)

    def embed(self, x: Float[Tensor, "n *input"]) -> Float[Tensor, "n *input"]:
        return x

    def adapt(self, support: Support, prior: TaskWeights | None = None) -> TaskWeights:
        """The model of each task, and what it made of the support set."""
        start: FastWeights = dict(self.calls.named_parameters())
        found = []
        for one in each(support):

            def loss(fast: FastWeights, one: Support = one) -> Tensor:
                return support_loss(functional_call(self.calls, fast, (one, one.features)), one)

            fast = tuned(start, loss, self.steps, self.lr)
            weights = functional_call(self.calls, fast, (one, None))
            model = {_MODEL + name: value[None] for name, value in fast.items()}
            found.append(replace(weights, task={**weights.task, **model}))
        return together(found)

    def predict(
        self, weights: TaskWeights, features: Float[Tensor, "tasks query *input"], noise: Noise | None = None
    ) -> Categorical:
        answers = []
        for task, query in enumerate(features):
            one = weights.select(task)
            learner = self.calls.learner
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
        raise LearnerError("fine-tuning of a whole model is for measuring alone")
