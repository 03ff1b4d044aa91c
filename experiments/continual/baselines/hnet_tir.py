"""HNET+TIR (1906.00695): a classifier infers the stream task of a query, and the network generated for it predicts.

The classifier is trained on the data of the newest stream task and on images that protected decoders generate for the
earlier ones, each labelled with its stream task.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, Field
from torch import Tensor
from torch.nn import functional as F

from experiments.continual.baselines.continual_method import ComparisonSetting
from experiments.continual.baselines.flat_networks import Network
from experiments.continual.baselines.hnet_replay import DecoderConfig, ProtectedVae
from experiments.continual.baselines.stream_learners import HnetEntropy
from models.continual.generated_networks import HyperStreamConfig
from models.continual.two_step_training import scheduled


class HnetTirConfig(HyperStreamConfig):
    """Hyperparameters of HNET+TIR."""

    decoder: DecoderConfig = Field(default_factory=lambda: DecoderConfig(decoder=(300, 150), beta=0.05))
    real: float | None = Field(default=None, gt=0, lt=1)
    """Weight of the loss on data, with the rest on generated images; None is the newest task's share of all tasks."""


class HnetTir(HnetEntropy):
    """`hnet-tir`: the classifier has the hidden layers of the main network. In CL1 none is trained."""

    Config = HnetTirConfig
    generates_inputs = True

    def __init__(self, setting: ComparisonSetting, config: BaseModel) -> None:
        super().__init__(setting, config)
        assert isinstance(config, HnetTirConfig)
        self.config = config
        self.vae = ProtectedVae(setting, config.decoder)
        widths = (setting.inputs, *setting.hidden, setting.tasks)
        self.classifier = Network(widths, setting.generator(7), setting.device)
        self.generator = setting.generator(8)

    def stored(self) -> Mapping[str, Tensor]:
        if self.setting.scenario == "cl1":
            return super().stored()
        return {**super().stored(), **self.vae.stored(), "classifier": self.classifier.flat}

    def learn(self, task: int, x: Float[Tensor, "n *pixels"], y: Int[Tensor, "n"]) -> None:
        super().learn(task, x, y)
        if self.setting.scenario == "cl1":
            return
        flat = x.flatten(1)
        if task:
            self._train_classifier(task, flat)
        self.vae.learn(flat)

    def task_posterior(
        self, x: Float[Tensor, "n *input"], features: Float[Tensor, "n *feature"]
    ) -> tuple[Float[Tensor, "n tasks"], None]:
        return self.classifier.outputs_of(x.flatten(1))[:, : self.seen].softmax(-1), None

    def _train_classifier(self, task: int, x: Float[Tensor, "n pixels"]) -> None:
        setting = self.setting
        real = 1 / (task + 1) if self.config.real is None else self.config.real
        optimiser, replayed = self.classifier.adam(setting.lr), self.vae.replay(self.generator)
        rate = scheduled(optimiser, setting.iterations, setting.schedule)
        newest = torch.full((setting.batch,), task, device=setting.device)
        for _ in range(setting.iterations):
            rows = torch.randint(len(x), (setting.batch,), generator=self.generator)
            generated, tasks = next(replayed)
            with setting.autocast():
                logits = self.classifier(torch.cat((x[rows], generated)))[:, : task + 1].float()
            on_data, on_generated = logits.split(setting.batch)
            loss = real * F.cross_entropy(on_data, newest)
            loss = loss + (1 - real) * F.cross_entropy(on_generated, tasks)
            self.classifier.grad.zero_()
            loss.backward()
            optimiser.step()
            rate.step()
