"""Continual learning in closed form: ridge on running sums of fixed random features.

Registering adds a stream task's ΦᵀΦ and ΦᵀY to the sums of the version before: exact, and free of order.
The answer for one stream task is read from its columns of (ΦᵀΦ + λI)⁻¹ΦᵀY, and which stream task a query
belongs to from all columns.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from models.noise import Noise, label_key
from models.predictive import Categorical
from models.protocol import LearnerError, StreamLearner, StreamVersion, TaskPosterior, TaskWeights, Traits

_RIDGE = 1.0
_SHARPNESS = 8.0


class RidgeStream(StreamLearner):
    traits = Traits(incremental=True, representation="embedding", objective="continual")

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.lift = nn.Linear(dim, width).requires_grad_(False)

    def embed(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n width"]:
        return F.relu(self.lift(x))

    def register(
        self, version: StreamVersion | None, task: str, x: Float[Tensor, "n d"], y: Int[Tensor, "n"]
    ) -> StreamVersion:
        features = self.embed(x)
        hot = F.one_hot(y).to(features)
        gram, cross = features.T @ features, features.T @ hot
        ways = torch.tensor([hot.shape[1]])
        if version is None:
            return StreamVersion(1, (task,), {"gram": gram, "cross": cross, "ways": ways})
        if task in version.tasks:
            raise LearnerError(f"stream task {task!r} is registered already")
        old = version.tensors
        tensors = {
            "gram": old["gram"] + gram,
            "cross": torch.cat((old["cross"], cross), 1),
            "ways": torch.cat((old["ways"], ways)),
        }
        return StreamVersion(version.number + 1, (*version.tasks, task), tensors)

    def weights(self, version: StreamVersion, task: str) -> TaskWeights:
        if task not in version.tasks:
            raise LearnerError(f"stream task {task!r} is not registered")
        rows = self._heads(version)[version.tasks.index(task)]
        keys = torch.tensor([[label_key(f"{task}/{label}") for label in range(len(rows))]])
        return TaskWeights({}, {"row": rows[None]}, torch.tensor([len(rows)]), keys, torch.zeros(1).long())

    def infer(self, version: StreamVersion, features: Float[Tensor, "query width"]) -> TaskPosterior:
        best = torch.stack([(features @ rows.T).amax(1) for rows in self._heads(version)], 1)
        return TaskPosterior(version.tasks, (_SHARPNESS * best).softmax(-1))

    def predict(
        self, weights: TaskWeights, features: Float[Tensor, "tasks query width"], noise: Noise | None = None
    ) -> Categorical:
        logits = _SHARPNESS * features @ weights.rows["row"].transpose(1, 2)
        return Categorical(logits.masked_fill(~weights.class_mask[:, None], -torch.inf).log_softmax(-1))

    def _heads(self, version: StreamVersion) -> tuple[Tensor, ...]:
        """Of each stream task, [way, width]."""
        gram = version.tensors["gram"]
        columns = torch.linalg.solve(gram + _RIDGE * torch.eye(len(gram)), version.tensors["cross"])
        return torch.split(columns.T, version.tensors["ways"].tolist())
