"""Continual learning in closed form: ridge on running sums of fixed random features.

Registering adds a stream task's ΦᵀΦ and ΦᵀY to the sums of the version before: exact, and free of order.
The answer for one stream task is read from its columns of (ΦᵀΦ + λI)⁻¹ΦᵀY, and which stream task a query
belongs to from all columns.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from models.noise import Noise, label_key
from models.predictive import Categorical
from models.protocol import LearnerError, TaskWeights, Traits
from models.stream_protocol import ProgressCallback, StreamLearner, StreamVersion

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
        self,
        version: StreamVersion | None,
        task: str,
        labels: tuple[str, ...],
        x: Float[Tensor, "n d"],
        y: Int[Tensor, "n"],
        report: ProgressCallback | None = None,
    ) -> StreamVersion:
        features = self.embed(x)
        hot = F.one_hot(y, len(labels)).to(features)
        own = {"gram": features.T @ features, "cross": features.T @ hot}
        if version is None:
            return StreamVersion(1, {task: labels}, {}, {task: own})
        if task in version.tasks:
            raise LearnerError(f"stream task {task!r} is registered already")
        number = version.number + 1
        return StreamVersion(number, {**version.labels, task: labels}, {}, {**version.per_task, task: own})

    def forget(
        self, version: StreamVersion, task: str, report: ProgressCallback | None = None
    ) -> StreamVersion:
        if task not in version.tasks:
            raise LearnerError(f"stream task {task!r} is not registered")
        if len(version.tasks) == 1:
            raise LearnerError(f"stream task {task!r} is the only one")
        labels = {name: found for name, found in version.labels.items() if name != task}
        own = {name: found for name, found in version.per_task.items() if name != task}
        return StreamVersion(version.number + 1, labels, {}, own)

    def weights(self, version: StreamVersion, task: str) -> TaskWeights:
        if task not in version.tasks:
            raise LearnerError(f"stream task {task!r} is not registered")
        rows = self._heads(version)[version.tasks.index(task)]
        keys = torch.tensor([[label_key(label) for label in version.labels[task]]])
        return TaskWeights({}, {"row": rows[None]}, torch.tensor([len(rows)]), keys, torch.zeros(1).long())

    def gate(self, version: StreamVersion) -> TaskWeights:
        heads = self._heads(version)
        of = torch.cat([torch.full((len(rows),), index) for index, rows in enumerate(heads)])
        keys = torch.tensor([[label_key(task) for task in version.tasks]])
        ways = torch.tensor([len(version.tasks)])
        return TaskWeights(
            {"row": torch.cat(heads)[None], "of": of[None]}, {}, ways, keys, torch.zeros(1).long()
        )

    def posterior(self, gate: TaskWeights, features: Float[Tensor, "batch query width"]) -> Categorical:
        scores, of = features @ gate.task["row"].transpose(1, 2), gate.task["of"][0]
        best = [scores[..., of == index].amax(-1) for index in range(int(gate.n_way[0]))]
        return Categorical((_SHARPNESS * torch.stack(best, -1)).log_softmax(-1))

    def drift(self, version: StreamVersion) -> Mapping[str, float]:
        return dict.fromkeys(version.tasks, 0.0)

    def predict(
        self, weights: TaskWeights, features: Float[Tensor, "tasks query width"], noise: Noise | None = None
    ) -> Categorical:
        logits = _SHARPNESS * features @ weights.rows["row"].transpose(1, 2)
        return Categorical(logits.masked_fill(~weights.class_mask[:, None], -torch.inf).log_softmax(-1))

    def _heads(self, version: StreamVersion) -> tuple[Tensor, ...]:
        """Return the rows of each stream task, [way, width]."""
        gram = sum((own["gram"] for own in version.per_task.values()), torch.zeros(()))
        cross = torch.cat([own["cross"] for own in version.per_task.values()], 1)
        columns = torch.linalg.solve(gram + _RIDGE * torch.eye(len(gram)), cross)
        return torch.split(columns.T, [len(labels) for labels in version.labels.values()])
