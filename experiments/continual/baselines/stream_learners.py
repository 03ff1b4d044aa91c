"""The stream learners of the service under the harness, registered and queried as in serving."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel
from torch import Tensor

from experiments.continual.baselines.continual_method import (
    ComparisonSetting,
    ContinualMethod,
    ContinualPrediction,
)
from models.continual.analytic import AnalyticConfig, AnalyticStream
from models.continual.generated_networks import HyperStreamConfig
from models.continual.hypernetwork import HyperStream
from models.predictive import Categorical
from models.stream_protocol import StreamLearner, StreamVersion

_BATCH, _CONVOLUTIONAL_BATCH = 2000, 200
"""Inputs per batch of all networks; convolutions need more memory per input."""


def with_channels(x: Float[Tensor, "n *pixels"]) -> Float[Tensor, "n channels side side"]:
    """Return images as encoders take them."""
    return x[:, None] if x.dim() == 3 else x


@torch.no_grad()
def feature_shape(setting: ComparisonSetting) -> tuple[int, ...]:
    """Return the shape of what a learner learns from: one input, or one output of the encoder."""
    if setting.encoder is not None:
        return tuple(setting.encoder(with_channels(torch.zeros(1, *setting.shape))).shape[1:])
    return setting.shape if setting.pictures else (setting.inputs,)


class StreamLearnerMethod(ContinualMethod):
    """A stream learner that predicts by P(task) P(class | task) over the `top` likeliest stream tasks."""

    top: ClassVar[int] = 2
    takes_encoder = True

    def __init__(self, setting: ComparisonSetting, config: BaseModel) -> None:
        super().__init__(setting, config)
        self.learner = self.make(setting, config).to(setting.device)
        self.version: StreamVersion | None = None

    def make(self, setting: ComparisonSetting, config: BaseModel) -> StreamLearner:
        """Return the learner."""
        raise NotImplementedError

    def inputs(self, x: Float[Tensor, "n *pixels"]) -> Float[Tensor, "n *input"]:
        """Return inputs as the learner takes them: images, with channels for an encoder, or else vectors."""
        if self.setting.encoder is not None:
            return with_channels(x)
        return x if self.setting.pictures else x.flatten(1)

    def learn(self, task: int, x: Float[Tensor, "n *pixels"], y: Int[Tensor, "n"]) -> None:
        self.begin(task)
        first = 0 if self.setting.scenario == "cl2" else task * self.setting.way
        labels = tuple(str(first + index) for index in range(self.setting.way))
        self.version = self.learner.register(self.version, str(task), labels, self.inputs(x), y)
        self.seen += 1

    def predict(self, x: Float[Tensor, "n *pixels"], task: int | None) -> ContinualPrediction:
        size = _BATCH if self.setting.target == "mlp" else _CONVOLUTIONAL_BATCH
        answers = [self._answer(part, task) for part in self.inputs(x).split(size)]
        label = torch.cat([answer.label for answer in answers])
        if task is not None:
            return ContinualPrediction(label)
        tasks = [answer.task for answer in answers if answer.task is not None]
        unknown = [answer.unknown for answer in answers if answer.unknown is not None]
        return ContinualPrediction(label, torch.cat(tasks), torch.cat(unknown) if unknown else None)

    def stored(self) -> Mapping[str, Tensor]:
        version = self.version
        if version is None:
            return {}
        per_task = {
            f"{task}.{name}": value for task, part in version.per_task.items() for name, value in part.items()
        }
        return {**version.shared, **per_task}

    def class_probabilities(self, task: int, features: Float[Tensor, "n *feature"]) -> Float[Tensor, "n way"]:
        """Return P(class | task)."""
        assert self.version is not None
        answer = self.learner.predict(self.learner.weights(self.version, str(task)), features[None])
        assert isinstance(answer, Categorical)
        return answer.probabilities[0]

    def task_posterior(
        self, x: Float[Tensor, "n *input"], features: Float[Tensor, "n *feature"]
    ) -> tuple[Float[Tensor, "n tasks"], Float[Tensor, "n"] | None]:
        """Return P(task) over the tasks so far, and `unknown`."""
        assert self.version is not None
        found = self.learner.infer(self.version, features)
        return found.probabilities, found.unknown

    def _answer(self, x: Float[Tensor, "n *input"], task: int | None) -> ContinualPrediction:
        features = self.learner.embed(x)
        if task is not None:
            return ContinualPrediction(self.class_probabilities(task, features).argmax(-1))
        p_task, unknown = self.task_posterior(x, features)
        chosen = p_task.topk(min(self.top, self.seen)).indices
        joint = torch.zeros(len(x), self.seen, self.setting.way, device=p_task.device)
        for each in chosen.unique().tolist():
            mine = (chosen == each).any(1)
            p_class = self.class_probabilities(each, features[mine])
            joint[mine, each] = p_task[mine, each, None] * p_class
        if self.setting.scenario == "cl2":
            return ContinualPrediction(joint.sum(1).argmax(-1), p_task.argmax(-1), unknown)
        best = joint.flatten(1).argmax(-1)
        return ContinualPrediction(best % self.setting.way, best // self.setting.way, unknown)


class AnalyticMethod(StreamLearnerMethod):
    """`analytic`: closed forms on fixed features, without gradients."""

    Config = AnalyticConfig

    def make(self, setting: ComparisonSetting, config: BaseModel) -> StreamLearner:
        assert isinstance(config, AnalyticConfig)
        shape = feature_shape(setting)
        learner = AnalyticStream(shape, setting.scenario, config, setting.encoder, setting.seed)
        if setting.encoder is not None:
            learner.take_images(with_channels(torch.zeros(1, *setting.shape)).shape[1:])
        return learner


class HnetGate(StreamLearnerMethod):
    """`hnet-gate`: one hypernetwork generates the network of each stream task, and the gate infers the task."""

    Config = HyperStreamConfig

    @classmethod
    def with_budget(cls, setting: ComparisonSetting, config: BaseModel) -> BaseModel:
        """Return the configuration with the main network and budget of all methods; CL2 has one head."""
        single = setting.scenario == "cl2"
        return config.model_copy(
            update={
                "target": setting.target,
                "hidden": setting.hidden,
                "iterations": setting.iterations,
                "batch": setting.batch,
                "lr": setting.lr,
                "schedule": setting.schedule,
                "precision": "bfloat16" if setting.precision == "bf16" else "float32",
                "heads": "shared" if single else "separate",
                "outputs": setting.outputs,
            }
        )

    def make(self, setting: ComparisonSetting, config: BaseModel) -> StreamLearner:
        assert isinstance(config, HyperStreamConfig)
        return HyperStream(feature_shape(setting), setting.scenario, config, setting.encoder, setting.seed)


class HnetEntropy(HnetGate):
    """`hnet-ent`: the network with the lowest entropy predicts alone."""

    top = 1
