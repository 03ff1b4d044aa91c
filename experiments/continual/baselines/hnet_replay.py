"""HNET+R (1906.00695): a classifier trained with generative replay from a VAE whose decoder a hypernetwork protects.

Each stream task has its own decoder h(e_j; Θ). Learning another task trains Θ under the two-step output regulariser, so
the decoders are never trained on generated images. The encoder is needed only in training.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F

from experiments.continual.baselines.continual_method import ComparisonSetting
from experiments.continual.baselines.sequential_training import SequentialTraining
from experiments.continual.baselines.vae import (
    LATENT,
    Decode,
    distillation,
    encoder,
    generated_images,
    negative_elbo,
)
from models.continual.chunked_hypernetwork import Activation, ChunkedHypernetwork
from models.continual.output_regulariser import GramRegulariser, OutputSnapshot
from models.continual.target_networks import MLPTarget, head
from models.continual.two_step_training import learn, scheduled

_STEPS_PER_BATCH = 32
"""Training steps for which images are generated together, as large products are faster."""


class DecoderConfig(BaseModel):
    """Hyperparameters of the protected VAE, with defaults as published for split-MNIST."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    latent: int = Field(default=LATENT, ge=1)
    encoder: tuple[int, ...] = (400, 400)
    decoder: tuple[int, ...] = (250, 350)
    chunk: int = Field(default=50_000, ge=1)
    task_embedding: int = Field(default=96, ge=1)
    chunk_embedding: int = Field(default=96, ge=1)
    trunk: tuple[int, ...] = (10, 10)
    activation: Activation = "elu"
    beta: float = Field(default=0.01, ge=0)


class ProtectedVae:
    """A VAE that generates images of every stream task it has learned."""

    def __init__(self, setting: ComparisonSetting, config: DecoderConfig) -> None:
        self.setting, self.config = setting, config
        self.target = MLPTarget((config.latent,), config.decoder)
        self.size = self.target.size(setting.inputs)
        self.net = ChunkedHypernetwork(
            min(config.chunk, self.size),
            config.task_embedding,
            config.chunk_embedding,
            config.trunk,
            config.activation,
        )
        self.generator = setting.generator(5)
        first, self.device = self.net.initial(self.size, self.generator), setting.device
        self.params = {name: value.to(self.device) for name, value in first.items()}
        self.embeddings = torch.zeros(0, config.task_embedding, device=self.device)
        self.encoder = encoder(
            setting.inputs, config.encoder, config.latent, setting.generator(6), self.device
        )

    def stored(self) -> dict[str, Tensor]:
        """Return all tensors to store. The encoder helps a later stream task, but could start afresh."""
        tensors = {f"decoders.{name}": value for name, value in self.params.items()}
        return {**tensors, "decoders.embeddings": self.embeddings, "encoder": self.encoder.flat}

    def learn(self, x: Float[Tensor, "n pixels"]) -> None:
        """Learn the images of another stream task."""
        setting = self.setting
        optimiser = self.encoder.adam(setting.lr)
        rate = scheduled(optimiser, setting.iterations, setting.schedule)

        def loss(step: int, flat: Tensor) -> Tensor:
            if step:
                # Apply the gradient of the previous step: `learn` steps only the hypernetwork and the embedding.
                optimiser.step()
                rate.step()
            self.encoder.grad.zero_()
            rows = torch.randint(len(x), (setting.batch,), generator=self.generator)
            with setting.autocast():
                encoded = self.encoder(x[rows]).float()
                decode = self._decoder(flat[None])
                elbo = negative_elbo(x[rows], encoded, decode, self.generator)
            # The mean over pixels as well, as in the reference, against which β is balanced.
            return elbo.mean() / setting.inputs

        tasks = len(self.embeddings)
        snapshot = OutputSnapshot(self.params, self.embeddings, self.size) if tasks else None
        self.params, embedding = learn(
            self.net,
            self.params,
            torch.randn(self.config.task_embedding, generator=self.generator).to(self.device),
            self.size,
            loss,
            steps=setting.iterations,
            lr=setting.lr,
            schedule=setting.schedule,
            beta=self.config.beta,
            regulariser=None if snapshot is None else GramRegulariser(self.net, snapshot),
        )
        self.embeddings = torch.cat([self.embeddings, embedding[None]])

    @torch.no_grad()
    def replay(self, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield endless batches of images [batch, pixels] and their stream tasks, evenly over all tasks."""
        setting, tasks = self.setting, len(self.embeddings)
        flats = self.net.generate(self.params, self.embeddings, self.size)
        each = -(-setting.batch * _STEPS_PER_BATCH // tasks)
        labels = torch.arange(tasks, device=self.device).repeat_interleave(each)
        while True:
            with setting.autocast():
                decoders = [self._decoder(flat[None]) for flat in flats]
                images = torch.cat(
                    [
                        generated_images(each, self.config.latent, decode, generator, self.device)
                        for decode in decoders
                    ]
                )
            order = torch.randperm(len(labels), generator=generator)
            for rows in order.split(setting.batch)[:_STEPS_PER_BATCH]:
                yield images[rows], labels[rows]

    def _decoder(self, flat: Float[Tensor, "1 size"]) -> Decode:
        body, rows = flat[:, : self.target.body], flat[:, self.target.body :]
        rows = rows.unflatten(1, (-1, self.target.hidden + 1))
        return lambda z: head(rows, self.target.features(body, z[None]))[0]


class HnetReplayConfig(BaseModel):
    """Hyperparameters of HNET+R."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    decoder: DecoderConfig = Field(default_factory=DecoderConfig)
    temperature: float = Field(default=2.0, gt=0)
    real: float = Field(default=0.5, gt=0, lt=1)
    """Weight of the loss on data; the loss on generated images has the rest."""
    unknown: Literal["zero", "never"] = "zero"
    """The target of the newest classes for generated images in CL3: a logit of 0, as in the paper's code, or a
    probability of 0, as in the replay it is compared with (1809.10635). All generated images are of old tasks and all
    data is new, so without a bound the newest outputs learn to tell generated images from data."""


class HnetReplay(SequentialTraining):
    """`hnet-r`: a classifier with generative replay from a protected VAE."""

    Config = HnetReplayConfig
    generates_inputs = True

    def __init__(self, setting: ComparisonSetting, config: BaseModel) -> None:
        super().__init__(setting, config)
        assert isinstance(config, HnetReplayConfig)
        self.config = config
        self.vae = ProtectedVae(setting, config.decoder)
        self.unknown = 0.0 if config.unknown == "zero" else -torch.inf

    def stored(self) -> Mapping[str, Tensor]:
        return {**super().stored(), **self.vae.stored()}

    def optimisers(self, task: int) -> list[torch.optim.Optimizer]:
        if task:
            self.before = self.network.copy()
            self.generated = self.vae.replay(self.generator)
        return super().optimisers(task)

    def losses(self, task: int, x: Float[Tensor, "batch d"], y: Int[Tensor, "batch"]) -> Float[Tensor, ""]:
        if not task:
            return self.loss(task, x, y)
        setting, real = self.setting, self.config.real
        generated, tasks = next(self.generated)
        with torch.no_grad(), setting.autocast():
            targets = self.before(generated).float()
        on_data, on_generated = self.logits(torch.cat((x, generated))).split(len(x))
        now, known = setting.active(task, task), setting.active(task - 1, task - 1)
        loss = F.cross_entropy(on_data[:, now], setting.indices(task, y))
        if setting.scenario == "cl1":
            # The stream task of a generated image is known, so its own head predicts.
            heads = torch.arange(len(tasks)), tasks
            shape = (setting.tasks, setting.way)
            on_generated, targets = (logits.unflatten(1, shape)[heads] for logits in (on_generated, targets))
        else:
            on_generated, targets = on_generated[:, now], targets[:, known]
        replayed = distillation(on_generated, targets, self.config.temperature, self.unknown)
        return real * loss + (1 - real) * replayed

    def finish(self, task: int, x: Float[Tensor, "n d"], y: Int[Tensor, "n"]) -> None:
        self.vae.learn(x)
