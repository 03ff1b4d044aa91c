"""Stream learners of the service under the harness: they register, are asked, and choose tasks as when they serve."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel
from torch import Tensor

from experiments.continual.baselines.continual_method import Answer, ContinualMethod, Setting
from models.continual.analytic import AnalyticConfig, AnalyticStream
from models.continual.generated_networks import HyperStreamConfig
from models.continual.hypernetwork import HyperStream
from models.predictive import Categorical
from models.stream_protocol import StreamLearner, StreamVersion

_PART, _PART_OF_PICTURES = 2000, 200
"""Inputs that all networks answer together; a convolution leaves more behind."""


class Streamed(ContinualMethod):
    """Of the `top` likeliest stream tasks a query is answered by P(task) P(class | task)."""

    top: ClassVar[int] = 2

    def __init__(self, setting: Setting, config: BaseModel) -> None:
        super().__init__(setting, config)
        self.learner = self.make(setting, config).to(setting.device)
        self.version: StreamVersion | None = None

    def make(self, setting: Setting, config: BaseModel) -> StreamLearner:
        raise NotImplementedError

    def inputs(self, x: Float[Tensor, "n *pixels"]) -> Float[Tensor, "n *input"]:
        """As pictures where they are some."""
        return x if self.setting.pictures else x.flatten(1)

    def learn(self, task: int, x: Float[Tensor, "n *pixels"], y: Int[Tensor, "n"]) -> None:
        self.begin(task)
        first = 0 if self.setting.scenario == "cl2" else task * self.setting.way
        labels = tuple(str(first + index) for index in range(self.setting.way))
        self.version = self.learner.register(self.version, str(task), labels, self.inputs(x), y)
        self.seen += 1

    def predict(self, x: Float[Tensor, "n *pixels"], task: int | None) -> Answer:
        size = _PART if self.setting.target == "mlp" else _PART_OF_PICTURES
        answers = [self._answer(part, task) for part in self.inputs(x).split(size)]
        label = torch.cat([answer.label for answer in answers])
        if task is not None:
            return Answer(label)
        return Answer(label, torch.cat([answer.task for answer in answers if answer.task is not None]))

    def kept(self) -> Mapping[str, Tensor]:
        version = self.version
        if version is None:
            return {}
        own = {
            f"{task}.{name}": value for task, part in version.per_task.items() for name, value in part.items()
        }
        return {**version.shared, **own}

    def network(self, task: int, features: Float[Tensor, "n *feature"]) -> Float[Tensor, "n way"]:
        """P(class | task)."""
        assert self.version is not None
        answer = self.learner.predict(self.learner.weights(self.version, str(task)), features[None])
        assert isinstance(answer, Categorical)
        return answer.probabilities[0]

    def found(self, x: Float[Tensor, "n *input"], features: Float[Tensor, "n *feature"]) -> Tensor:
        """P(task) [n, tasks so far]."""
        assert self.version is not None
        return self.learner.infer(self.version, features).probabilities

    def _answer(self, x: Float[Tensor, "n *input"], task: int | None) -> Answer:
        features = self.learner.embed(x)
        if task is not None:
            return Answer(self.network(task, features).argmax(-1))
        of_task = self.found(x, features)
        chosen = of_task.topk(min(self.top, self.seen)).indices
        joint = torch.zeros(len(x), self.seen, self.setting.way, device=of_task.device)
        for each in chosen.unique().tolist():
            mine = (chosen == each).any(1)
            joint[mine, each] = of_task[mine, each, None] * self.network(each, features[mine])
        if self.setting.scenario == "cl2":
            return Answer(joint.sum(1).argmax(-1), of_task.argmax(-1))
        best = joint.flatten(1).argmax(-1)
        return Answer(best % self.setting.way, best // self.setting.way)


class Analytic(Streamed):
    """`analytic`: closed forms on fixed features, no gradient anywhere."""

    Config = AnalyticConfig

    def make(self, setting: Setting, config: BaseModel) -> StreamLearner:
        assert isinstance(config, AnalyticConfig)
        shape = setting.shape if setting.pictures else (setting.inputs,)
        return AnalyticStream(shape, setting.scenario, config, None, setting.seed)


class Hypernetwork(Streamed):
    """`hnet-gate`: the network of each stream task from one hypernetwork, the stream task from the gate."""

    Config = HyperStreamConfig

    @classmethod
    def within(cls, setting: Setting, config: BaseModel) -> BaseModel:
        """The main network and its budget are those of all methods; CL2 has one head."""
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

    def make(self, setting: Setting, config: BaseModel) -> StreamLearner:
        assert isinstance(config, HyperStreamConfig)
        shape = setting.shape if setting.pictures else (setting.inputs,)
        return HyperStream(shape, setting.scenario, config, None, setting.seed)


class SurestHypernetwork(Hypernetwork):
    """`hnet-ent`: the stream task whose network has the lowest entropy, and that network alone."""

    top = 1
