"""HNET+R (1906.00695): a classifier that replays what a VAE draws, whose decoder a hypernetwork protects.

Each stream task has a decoder of its own, h(e_j; Θ): learning another trains Θ under the two-step output regulariser,
so nothing that was drawn is ever learned from again by what draws. The encoder is needed in training alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F

from experiments.continual.baselines.continual_method import Setting
from experiments.continual.baselines.sequential_training import FineTune
from experiments.continual.baselines.vae import LATENT, Decode, distillation, drawn, encoder, negative_elbo
from models.continual.chunked_hypernetwork import Activation, ChunkedHypernetwork
from models.continual.output_regulariser import GramRegulariser, OutputSnapshot
from models.continual.target_networks import MLPTarget, head
from models.continual.two_step_training import learn, scheduled

_STEPS_AT_ONCE = 32
"""Pictures of so many steps are drawn together: large products are faster."""


class DecoderConfig(BaseModel):
    """As published for split-MNIST."""

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
    """Draws pictures of every stream task that it has learned."""

    def __init__(self, setting: Setting, config: DecoderConfig) -> None:
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

    def kept(self) -> dict[str, Tensor]:
        """The encoder is of use to a later stream task, but could start afresh."""
        found = {f"decoders.{name}": value for name, value in self.params.items()}
        return {**found, "decoders.embeddings": self.embeddings, "encoder": self.encoder.flat}

    def learn(self, x: Float[Tensor, "n pixels"]) -> None:
        """Of one more stream task."""
        setting = self.setting
        optimiser = self.encoder.adam(setting.lr)
        rate = scheduled(optimiser, setting.iterations, setting.schedule)

        def loss(step: int, flat: Tensor) -> Tensor:
            if step:
                # The gradient that the step before left: `learn` steps what it generates from, and that alone.
                optimiser.step()
                rate.step()
            self.encoder.grad.zero_()
            rows = torch.randint(len(x), (setting.batch,), generator=self.generator)
            with setting.autocast():
                encoded = self.encoder(x[rows]).float()
                decode = self._decoder(flat[None])
                elbo = negative_elbo(x[rows], encoded, decode, self.generator)
            # A mean over pixels too, as in the reference: β is weighed against it.
            return elbo.mean() / setting.inputs

        tasks = len(self.embeddings)
        kept = OutputSnapshot(self.params, self.embeddings, self.size) if tasks else None
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
            regulariser=None if kept is None else GramRegulariser(self.net, kept),
        )
        self.embeddings = torch.cat([self.embeddings, embedding[None]])

    @torch.no_grad()
    def replay(self, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of pictures [batch, pixels], each with its stream task, evenly of all; without end."""
        setting, tasks = self.setting, len(self.embeddings)
        flats = self.net.generate(self.params, self.embeddings, self.size)
        each = -(-setting.batch * _STEPS_AT_ONCE // tasks)
        of = torch.arange(tasks, device=self.device).repeat_interleave(each)
        while True:
            with setting.autocast():
                decoders = [self._decoder(flat[None]) for flat in flats]
                found = [
                    drawn(each, self.config.latent, decode, generator, self.device) for decode in decoders
                ]
                pictures = torch.cat(found)
            order = torch.randperm(len(of), generator=generator)
            for rows in order.split(setting.batch)[:_STEPS_AT_ONCE]:
                yield pictures[rows], of[rows]

    def _decoder(self, flat: Float[Tensor, "1 size"]) -> Decode:
        body, rows = flat[:, : self.target.body], flat[:, self.target.body :]
        rows = rows.unflatten(1, (-1, self.target.hidden + 1))
        return lambda z: head(rows, self.target.features(body, z[None]))[0]


class ReplayedConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    decoder: DecoderConfig = Field(default_factory=DecoderConfig)
    temperature: float = Field(default=2.0, gt=0)
    real: float = Field(default=0.5, gt=0, lt=1)
    """Weight of the loss on data, against that on what is drawn."""
    unknown: Literal["zero", "never"] = "zero"
    """What the classifier from before is taken to say of the newest classes in CL3: a logit of 0, as the paper's code,
    or a probability of 0, as the replay it is compared with (1809.10635). All that is drawn is old and all data new:
    unbounded, the newest outputs learn to tell drawings from data."""


class Replayed(FineTune):
    Config = ReplayedConfig
    draws = True

    def __init__(self, setting: Setting, config: BaseModel) -> None:
        super().__init__(setting, config)
        assert isinstance(config, ReplayedConfig)
        self.config = config
        self.vae = ProtectedVae(setting, config.decoder)
        self.unknown = 0.0 if config.unknown == "zero" else -torch.inf

    def kept(self) -> Mapping[str, Tensor]:
        return {**super().kept(), **self.vae.kept()}

    def optimisers(self, task: int) -> list[torch.optim.Optimizer]:
        if task:
            self.before = self.network.copy()
            self.fakes = self.vae.replay(self.generator)
        return super().optimisers(task)

    def losses(self, task: int, x: Float[Tensor, "batch d"], y: Int[Tensor, "batch"]) -> Float[Tensor, ""]:
        if not task:
            return self.loss(task, x, y)
        setting, real = self.setting, self.config.real
        fake, of = next(self.fakes)
        with torch.no_grad(), setting.autocast():
            targets = self.before(fake).float()
        of_data, of_fake = self.logits(torch.cat((x, fake))).split(len(x))
        now, known = setting.active(task, task), setting.active(task - 1, task - 1)
        loss = F.cross_entropy(of_data[:, now], setting.indices(task, y))
        if setting.scenario == "cl1":
            # Of a drawn picture the stream task is known, so its own head answers.
            heads = torch.arange(len(of)), of
            shape = (setting.tasks, setting.way)
            of_fake, targets = (found.unflatten(1, shape)[heads] for found in (of_fake, targets))
        else:
            of_fake, targets = of_fake[:, now], targets[:, known]
        replayed = distillation(of_fake, targets, self.config.temperature, self.unknown)
        return real * loss + (1 - real) * replayed

    def finish(self, task: int, x: Float[Tensor, "n d"], y: Int[Tensor, "n"]) -> None:
        self.vae.learn(x)
