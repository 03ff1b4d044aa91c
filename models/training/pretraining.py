"""Pre-training of an encoder as a classifier of all training classes, before the episodes (Chen et al. 2021,
2003.04390, "Classifier-Baseline").

Every picture of a batch has its own gradient and competes against all classes, which on photos teaches an encoder more
per picture than tasks do. The classifier is log p(y|x) ∝ −½‖f(x) − c_y‖² with a centre per class: linear, and its
features spread about their centres by about 1, the initial unit of distance-based heads. The result is the checkpoint
whose nearest centroids answer validation tasks best.
"""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from models.augmentation import Augmentation
from models.data.dataset import ClassDataset
from models.data.episodes import prepared
from models.encoder_protocol import Encoder
from models.fewshot.common.classification import fixed_length
from models.fewshot.protonet import ProtoNet, ProtoNetConfig
from models.protocol import Episodes, Losses
from models.training.gradient import GradientTrainer
from models.training.trainer import Report, TrainConfig, Validate

FOLDER = "pretraining"
_STREAM = 1
"""Key that separates the draws of pre-training from those of the episodes."""


class PretrainingConfig(BaseModel):
    """Settings of a pre-training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(ge=1)
    batch: int = Field(default=64, ge=2)
    lr: float = Field(default=2e-3, gt=0)
    weight_decay: float = Field(default=0.02, ge=0)


class ClassifierOfAll(ProtoNet):
    """A learner whose loss classifies the training classes and that answers tasks by nearest centroid."""

    def __init__(self, encoder: Encoder, classes: int) -> None:
        super().__init__(encoder, ProtoNetConfig(metric="cosine"))
        self.centres = nn.Parameter(torch.zeros(classes, fixed_length(encoder)))

    def loss(self, episodes: Episodes, progress: float) -> Losses:
        """Return the cross-entropy over all training classes of one batch of `BatchSampler`."""
        features = self.embed(episodes.query_x[0])
        logits = features @ self.centres.T - 0.5 * self.centres.square().sum(1)
        return Losses(F.cross_entropy(logits, episodes.query_y[0])[None])


class BatchSampler:
    """Batches of examples of all classes, each as the queries of one task without a support set."""

    def __init__(self, dataset: ClassDataset, batch: int, seed: int) -> None:
        self.dataset = dataset
        self.batch = min(batch, len(dataset))
        self.seed = seed
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.long)

    def episodes(self, step: int, augmentation: Augmentation | None) -> Episodes:
        index = self._drawn(step)
        generator = torch.Generator().manual_seed(hash((self.seed, step, _STREAM)) % 2**63)
        alone = torch.arange(len(index))
        x = prepared(self.dataset.inputs[index], alone, augmentation, generator)
        y = self.dataset.labels[index]
        real = torch.ones(1, len(index), dtype=torch.bool)
        return Episodes(
            support_x=x[None, :0],
            support_y=y[None, :0],
            support_mask=real[:, :0],
            query_x=x[None],
            query_y=y[None],
            query_mask=real,
            n_way=torch.tensor([len(self.dataset.class_names)]),
            unseen=torch.zeros(1, dtype=torch.bool),
        )

    def _drawn(self, step: int) -> Int[Tensor, "batch"]:
        """Return every example once an epoch, except for a rest that fills no batch."""
        epoch, position = divmod(step, len(self.dataset) // self.batch)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(1_000_003 * self.seed + epoch)
            self._epoch, self._order = epoch, torch.randperm(len(self.dataset), generator=generator)
        return self._order[position * self.batch : (position + 1) * self.batch]


def pretrain(
    encoder: Encoder,
    dataset: ClassDataset,
    config: PretrainingConfig,
    augmentation: Augmentation | None,
    base: TrainConfig,
    folder: Path,
    validate: Validate,
    report: Report,
) -> dict[str, Float[Tensor, "..."]]:
    """Train in `folder/pretraining`, resuming a training there; return the state of the encoder that validates best."""
    schedule = base.model_copy(
        update={
            "steps": config.steps,
            "lr": config.lr,
            "weight_decay": config.weight_decay,
            "warm_up": min(base.warm_up, max(1, config.steps // 10)),
        }
    )
    sampler = BatchSampler(dataset, config.batch, base.seed)
    learner = ClassifierOfAll(encoder, len(dataset.class_names))
    trainer = GradientTrainer(learner, sampler, augmentation, schedule, folder / FOLDER)
    best = trainer.run(validate, report)
    assert isinstance(best, ClassifierOfAll)
    return best.encoder.state_dict()
