"""HNET+TIR (1906.00695): a classifier tells the stream task of a query, and the hypernetwork's network of it answers.

The classifier is trained on the data of the newest stream task and on what protected decoders draw of those before,
each picture labelled with the stream task it was drawn for.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, Field
from torch import Tensor
from torch.nn import functional as F

from experiments.continual.baselines.continual_method import Setting
from experiments.continual.baselines.flat_networks import Network
from experiments.continual.baselines.hnet_replay import DecoderConfig, ProtectedVae
from experiments.continual.baselines.stream_learners import SurestHypernetwork
from models.continual.generated_networks import HyperStreamConfig
from models.continual.two_step_training import scheduled


class TirConfig(HyperStreamConfig):
    decoder: DecoderConfig = Field(default_factory=lambda: DecoderConfig(decoder=(300, 150), beta=0.05))
    real: float | None = Field(default=None, gt=0, lt=1)
    """Weight of the loss on data, against that on what is drawn; None is the newest stream task's share of all."""


class Tir(SurestHypernetwork):
    """The classifier has the hidden layers of the main network. In CL1 there is nothing to infer: none is trained."""

    Config = TirConfig
    draws = True

    def __init__(self, setting: Setting, config: BaseModel) -> None:
        super().__init__(setting, config)
        assert isinstance(config, TirConfig)
        self.config = config
        self.vae = ProtectedVae(setting, config.decoder)
        widths = (setting.inputs, *setting.hidden, setting.tasks)
        self.classifier = Network(widths, setting.generator(7), setting.device)
        self.generator = setting.generator(8)

    def kept(self) -> Mapping[str, Tensor]:
        if self.setting.scenario == "cl1":
            return super().kept()
        return {**super().kept(), **self.vae.kept(), "classifier": self.classifier.flat}

    def learn(self, task: int, x: Float[Tensor, "n *pixels"], y: Int[Tensor, "n"]) -> None:
        super().learn(task, x, y)
        if self.setting.scenario == "cl1":
            return
        flat = x.flatten(1)
        if task:
            self._tell(task, flat)
        self.vae.learn(flat)

    def found(self, x: Float[Tensor, "n *input"], features: Float[Tensor, "n *feature"]) -> Tensor:
        return self.classifier.answers(x.flatten(1))[:, : self.seen].softmax(-1)

    def _tell(self, task: int, x: Float[Tensor, "n pixels"]) -> None:
        setting = self.setting
        real = 1 / (task + 1) if self.config.real is None else self.config.real
        optimiser, fakes = self.classifier.adam(setting.lr), self.vae.replay(self.generator)
        rate = scheduled(optimiser, setting.iterations, setting.schedule)
        newest = torch.full((setting.batch,), task, device=setting.device)
        for _ in range(setting.iterations):
            rows = torch.randint(len(x), (setting.batch,), generator=self.generator)
            fake, of = next(fakes)
            with setting.autocast():
                logits = self.classifier(torch.cat((x[rows], fake)))[:, : task + 1].float()
            of_data, of_fake = logits.split(setting.batch)
            loss = real * F.cross_entropy(of_data, newest) + (1 - real) * F.cross_entropy(of_fake, of)
            self.classifier.grad.zero_()
            loss.backward()
            optimiser.step()
            rate.step()
