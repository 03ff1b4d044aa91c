"""The analytic stream: closed forms on fixed features. Nothing is forgotten, nothing is replayed.

A stream task's head is a ridge on its own sums alone (`models.continual.ridge`), so that no later registration moves
it: drift is 0 to the bit. Which task a query belongs to is read from the sums of all (`models.continual.gate`), and
P(class) = P(task) P(class | task). Registering costs the same for any number of tasks but for adding their sums;
forgetting is leaving sums out: exact, and free of order. Weights of a task: a row and a bias per class, an inverse
temperature from examples each judged as if it had been left out.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.continual.config import Scenario, check_known, check_task
from models.continual.gate import PREFIX, Gate, GateConfig, temperature
from models.continual.ridge import moments, solve
from models.continual.unknown import Sample
from models.noise import Noise, label_key
from models.predictive import Categorical
from models.protocol import LearnerError, TaskWeights, Traits
from models.stream_protocol import Report, StreamLearner, StreamVersion

_LEFT_OUT = 2000
"""Examples that a head's temperature is read from."""


class AnalyticConfig(GateConfig):
    """Heads and gate stand on the same features and sums."""


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
        self.fixed = Gate(shape, seed, config)

    def embed(self, x: Float[Tensor, "n *input"]) -> Float[Tensor, "n f"]:
        """Fixed features of the input, or of what the frozen encoder makes of it."""
        x = x.to(self.device)
        with torch.no_grad():
            found: Tensor = self.fixed.features(x if self.encoder is None else self.encoder(x))
            return found

    def register(
        self,
        version: StreamVersion | None,
        task: str,
        labels: tuple[str, ...],
        x: Float[Tensor, "n *input"],
        y: Int[Tensor, "n"],
        report: Report | None = None,
    ) -> StreamVersion:
        check_task(self.scenario, version, task, labels, y)
        features, y = self.embed(x).cpu(), y.cpu()
        own = self.fixed.own_of(features, y, len(labels))
        head = self._head(own, features, y)
        if report is not None:
            report({"step": 1, "steps": 2})
        number, before, owned = (
            (0, {}, {}) if version is None else (version.number, version.labels, version.own)
        )
        return self._whole(number + 1, {**before, task: labels}, {**owned, task: {**own, **head}}, report)

    def forget(self, version: StreamVersion, task: str, report: Report | None = None) -> StreamVersion:
        check_known(version, task)
        if len(version.tasks) == 1:
            raise LearnerError(f"stream task {task!r} is the only one")
        labels = {name: found for name, found in version.labels.items() if name != task}
        own = {name: version.own[name] for name in labels}
        return self._whole(version.number + 1, labels, own, report)

    def weights(self, version: StreamVersion, task: str) -> TaskWeights:
        check_known(version, task)
        own = version.own[task]
        held = TaskWeights(
            {"scale": own["head.scale"][None]},
            {"row": own["head.row"][None], "bias": own["head.bias"][None]},
            torch.tensor([len(version.labels[task])]),
            torch.tensor([[label_key(label) for label in version.labels[task]]]),
            torch.zeros(1, dtype=torch.long),
        )
        return held.to(self.device)

    def predict(
        self, weights: TaskWeights, features: Float[Tensor, "tasks query f"], noise: Noise | None = None
    ) -> Categorical:
        scores = features @ weights.rows["row"].transpose(1, 2) + weights.rows["bias"][:, None]
        logits = weights.task["scale"][:, None] * scores
        return Categorical(logits.masked_fill(~weights.class_mask[:, None], -torch.inf).log_softmax(-1))

    def gate(self, version: StreamVersion) -> TaskWeights:
        return self.fixed.weights(version).to(self.device)

    def posterior(self, gate: TaskWeights, features: Float[Tensor, "batch query f"]) -> Categorical:
        return self.fixed.posterior_of(gate, features)

    def drift(self, version: StreamVersion) -> Mapping[str, float]:
        """0: a head depends on its own task alone."""
        return dict.fromkeys(version.tasks, 0.0)

    def _whole(
        self,
        number: int,
        labels: Mapping[str, tuple[str, ...]],
        own: Mapping[str, Mapping[str, Tensor]],
        report: Report | None,
    ) -> StreamVersion:
        shared = self.fixed.fit(labels, own)
        if report is not None:
            report({"step": 2, "steps": 2})
        return StreamVersion(number, labels, shared, own)

    def _head(
        self, own: Mapping[str, Tensor], features: Float[Tensor, "n f"], y: Int[Tensor, "n"]
    ) -> dict[str, Tensor]:
        solution = solve(moments([{name.removeprefix(PREFIX): value for name, value in own.items()}]))
        few = Sample(features, y).thinned(_LEFT_OUT)
        scores, _ = solution.left_out(few.features, few.y)
        return {
            "head.row": solution.rows.float(),
            "head.bias": solution.bias.float(),
            "head.scale": temperature(scores, few.y).reshape(1),
        }
