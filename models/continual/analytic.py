"""The analytic stream: closed forms on fixed features, with no forgetting and no replay.

The classifier of a stream task is a ridge on the sums of that task alone (`models.continual.incremental_ridge`), so
no later registration moves it and drift is exactly 0. Task inference uses the sums of all tasks
(`models.continual.task_gate`), and P(class) = P(task) P(class | task). Apart from adding up their sums, registering
costs the same for any number of tasks; forgetting leaves sums out, which is exact and independent of order. Task
weights: a row and a bias per class, and an inverse temperature read from examples each scored as if it had been left
out.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from models.continual.fixed_features import FixedFeatures, fixed_features
from models.continual.incremental_ridge import moments, solve
from models.continual.stream_config import Scenario, check_known, check_task
from models.continual.task_gate import PREFIX, FeatureSample, Gate, GateConfig, temperature
from models.noise import Noise, label_key
from models.predictive import Categorical
from models.protocol import LearnerError, TaskWeights, Traits
from models.stream_protocol import ProgressCallback, StreamLearner, StreamVersion

_TEMPERATURE_EXAMPLES = 2000
"""Number of examples from which the temperature of a task's classifier is read."""


class AnalyticConfig(GateConfig):
    """Hyperparameters of classifiers and gate alike: both use the same features and sums."""

    pixels: bool = True
    """If true, half of the features of images are computed from the images themselves beside a frozen encoder, which
    may never have seen their like."""


class AnalyticStream(StreamLearner):
    Config = AnalyticConfig
    traits = Traits(incremental=True, representation="embedding", objective="continual")

    def __init__(
        self,
        shape: tuple[int, ...],
        scenario: Scenario,
        config: AnalyticConfig,
        encoder: nn.Module | None,
        seed: int,
    ) -> None:
        super().__init__()
        self.scenario = scenario
        self.encoder = encoder
        self.task_gate = Gate(shape, seed, config)
        self.image_features: FixedFeatures | None = None
        self._made_of = shape, config, seed

    def take_images(self, shape: tuple[int, ...]) -> None:
        shape_of_feature, config, seed = self._made_of
        if self.encoder is None or not config.pixels:
            return
        half = config.features.model_copy(update={"count": max(1, config.features.count // 2)})
        self.task_gate = Gate(shape_of_feature, seed, config.model_copy(update={"features": half}))
        self.image_features = fixed_features(shape, half, seed)

    def embed(self, x: Float[Tensor, "n *input"]) -> Float[Tensor, "n f"]:
        """Return fixed features of the input or, if there is a frozen encoder, of its output and of images."""
        x = x.to(self.device)
        with torch.no_grad():
            features: Tensor = self.task_gate.features(x if self.encoder is None else self.encoder(x))
            if self.image_features is None:
                return features
            return torch.cat((F.normalize(features), F.normalize(self.image_features(x))), 1)

    def register(
        self,
        version: StreamVersion | None,
        task: str,
        labels: tuple[str, ...],
        x: Float[Tensor, "n *input"],
        y: Int[Tensor, "n"],
        report: ProgressCallback | None = None,
    ) -> StreamVersion:
        check_task(self.scenario, version, task, labels, y)
        features, y = self.embed(x).cpu(), y.cpu()
        part = self.task_gate.task_part_from_features(features, y, len(labels))
        part |= self._classifier(part, features, y)
        if report is not None:
            report({"step": 1, "steps": 2})
        if version is None:
            return self._new_version(1, {task: labels}, {task: part}, report)
        return self._new_version(
            version.number + 1, {**version.labels, task: labels}, {**version.per_task, task: part}, report
        )

    def forget(
        self, version: StreamVersion, task: str, report: ProgressCallback | None = None
    ) -> StreamVersion:
        check_known(version, task)
        if len(version.tasks) == 1:
            raise LearnerError(f"stream task {task!r} is the only one")
        labels = {name: classes for name, classes in version.labels.items() if name != task}
        per_task = {name: version.per_task[name] for name in labels}
        return self._new_version(version.number + 1, labels, per_task, report)

    def weights(self, version: StreamVersion, task: str) -> TaskWeights:
        check_known(version, task)
        part = version.per_task[task]
        weights = TaskWeights(
            {"scale": part["head.scale"][None]},
            {"row": part["head.row"][None], "bias": part["head.bias"][None]},
            torch.tensor([len(version.labels[task])]),
            torch.tensor([[label_key(label) for label in version.labels[task]]]),
            torch.zeros(1, dtype=torch.long),
        )
        return weights.to(self.device)

    def predict(
        self, weights: TaskWeights, features: Float[Tensor, "tasks query f"], noise: Noise | None = None
    ) -> Categorical:
        scores = features @ weights.rows["row"].transpose(1, 2) + weights.rows["bias"][:, None]
        logits = weights.task["scale"][:, None] * scores
        return Categorical(logits.masked_fill(~weights.class_mask[:, None], -torch.inf).log_softmax(-1))

    def gate(self, version: StreamVersion) -> TaskWeights:
        return self.task_gate.weights(version).to(self.device)

    def posterior(self, gate: TaskWeights, features: Float[Tensor, "batch query f"]) -> Categorical:
        return self.task_gate.posterior_from_features(gate, features)

    def drift(self, version: StreamVersion) -> Mapping[str, float]:
        """Return 0 for each task: its classifier depends on that task alone."""
        return dict.fromkeys(version.tasks, 0.0)

    def _new_version(
        self,
        number: int,
        labels: Mapping[str, tuple[str, ...]],
        per_task: Mapping[str, Mapping[str, Tensor]],
        report: ProgressCallback | None,
    ) -> StreamVersion:
        shared = self.task_gate.fit(labels, per_task)
        if report is not None:
            report({"step": 2, "steps": 2})
        return StreamVersion(number, labels, shared, per_task)

    def _classifier(
        self, part: Mapping[str, Tensor], features: Float[Tensor, "n f"], y: Int[Tensor, "n"]
    ) -> dict[str, Tensor]:
        solution = solve(moments([{name.removeprefix(PREFIX): value for name, value in part.items()}]))
        few = FeatureSample(features, y).thinned(_TEMPERATURE_EXAMPLES)
        scores, _ = solution.left_out(few.features, few.y)
        return {
            "head.row": solution.rows.float(),
            "head.bias": solution.bias.float(),
            "head.scale": temperature(scores, few.y).reshape(1),
        }
