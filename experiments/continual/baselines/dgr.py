"""Deep generative replay (1705.08690) with distillation (1809.10635): a VAE generates inputs of earlier stream tasks,
and the classifier from before the present task labels them, softened by T.

Both are trained on the data and on generated inputs: stream task t has weight 1/t, all earlier ones have the rest.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F

from experiments.continual.baselines.continual_method import ComparisonSetting
from experiments.continual.baselines.flat_networks import FlatNetwork, Network
from experiments.continual.baselines.sequential_training import SequentialTraining
from experiments.continual.baselines.vae import LATENT, distillation, encoder, generated_images, negative_elbo


class DgrConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    temperature: float = Field(default=2.0, gt=0)
    latent: int = Field(default=LATENT, ge=1)


class Dgr(SequentialTraining):
    """Deep generative replay. Encoder and decoder have the hidden layers of the main network."""

    Config = DgrConfig
    generates_inputs = True

    def __init__(self, setting: ComparisonSetting, config: BaseModel) -> None:
        super().__init__(setting, config)
        assert isinstance(config, DgrConfig)
        self.config = config
        device = setting.device
        self.encoder = encoder(setting.inputs, setting.hidden, config.latent, setting.generator(2), device)
        widths = (config.latent, *reversed(setting.hidden), setting.inputs)
        self.decoder = Network(widths, setting.generator(3), device)
        self.before: tuple[FlatNetwork, Network] | None = None

    def stored(self) -> Mapping[str, Tensor]:
        return {**super().stored(), "encoder": self.encoder.flat, "decoder": self.decoder.flat}

    def optimisers(self, task: int) -> list[torch.optim.Optimizer]:
        """Return the optimisers of a stream task, and keep copies of the networks that replay the earlier ones."""
        self.before = (self.network.copy(), self.decoder.copy()) if task else None
        networks = (self.network, self.encoder, self.decoder)
        return [network.adam(self.setting.lr) for network in networks]

    def losses(self, task: int, x: Float[Tensor, "batch d"], y: Int[Tensor, "batch"]) -> Float[Tensor, ""]:
        self.encoder.grad.zero_()
        self.decoder.grad.zero_()
        if self.before is None:
            return self.loss(task, x, y) + self._negative_elbo(x).mean()
        classifier, decoder = self.before
        with torch.no_grad(), self.setting.autocast():
            fake = generated_images(len(x), self.config.latent, decoder, self.generator, self.setting.device)
            targets = classifier(fake).float()
        # One pass over real and generated inputs.
        both, share = torch.cat((x, fake)), 1 / (task + 1)
        real, of_fake = self.logits(both).split(len(x))
        setting = self.setting
        known = real[:, setting.active(task, task)]
        losses = F.cross_entropy(known, setting.indices(task, y)), self._distilled(task, of_fake, targets)
        elbos = self._negative_elbo(both).split(len(x))
        loss: Tensor = share * (losses[0] + elbos[0].mean()) + (1 - share) * (losses[1] + elbos[1].mean())
        return loss

    def _negative_elbo(self, x: Float[Tensor, "batch d"]) -> Float[Tensor, "batch"]:
        with self.setting.autocast():
            encoded = self.encoder(x).float()
            return negative_elbo(x, encoded, self.decoder, self.generator)

    def _distilled(
        self, task: int, logits: Float[Tensor, "n outputs"], targets: Float[Tensor, "n outputs"]
    ) -> Float[Tensor, ""]:
        """Return the distillation loss; in CL1 by every earlier head, as the task of a generated input is unknown."""
        setting, temperature = self.setting, self.config.temperature
        if setting.scenario != "cl1":
            now, known = setting.active(task, task), setting.active(task - 1, task - 1)
            return distillation(logits[:, now], targets[:, known], temperature)
        each = [
            distillation(logits[:, setting.head_of(old)], targets[:, setting.head_of(old)], temperature)
            for old in range(task)
        ]
        return torch.stack(each).mean()
