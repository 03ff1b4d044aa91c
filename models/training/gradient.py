"""Meta-training by gradient descent on `MetaLearner.loss`: warm-up and cosine, moving average, best checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from models.augmentation import Augmentation
from models.protocol import MetaLearner
from models.training import checkpoint
from models.training.trainer import Sampler, TrainConfig, Trainer, TrainingDivergedError

GRADIENT_CLIP = 5.0


def _moving_average(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], int | Tensor], None]:
    """Return the moving average of parameters and BatchNorm statistics; it is short at first, to forget the start."""

    def update(averaged: Sequence[Tensor], current: Sequence[Tensor], count: int | Tensor) -> None:
        reached = min(decay, (1 + int(count)) / (10 + int(count)))
        get_ema_multi_avg_fn(reached)(averaged, current, count)

    return update


class GradientTrainer(Trainer):
    """Gradient descent. It validates and returns a moving average of the weights."""

    def __init__(
        self,
        learner: MetaLearner,
        sampler: Sampler,
        augmentation: Augmentation | None,
        config: TrainConfig,
        folder: Path,
    ) -> None:
        super().__init__(config, folder)
        self.learner = learner.to(config.device)
        self.average = AveragedModel(self.learner, multi_avg_fn=_moving_average(config.ema), use_buffers=True)
        self.best = AveragedModel(self.learner, use_buffers=True)
        # After the copies, which are validated in full precision.
        self.learner.encoder.compute_dtype = torch.bfloat16 if config.precision == "bf16" else None
        self._sampler = sampler
        self._augmentation = augmentation
        trained = [p for p in self.learner.parameters() if p.requires_grad]
        self._optimiser = torch.optim.AdamW(trained, lr=config.lr, weight_decay=config.weight_decay)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimiser, self._lr_factor)

    def _step(self) -> dict[str, float]:
        config, step = self.config, self.progress.step
        self.learner.train()
        episodes = self._sampler.episodes(step, self._augmentation).to(config.device)
        losses = self.learner.loss(episodes, step / config.steps)
        loss = losses.total.mean()
        if not torch.isfinite(loss):
            raise TrainingDivergedError(f"loss is {loss.item()} at step {step}")
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.learner.parameters(), GRADIENT_CLIP)
        self._optimiser.step()
        self._schedule.step()
        self.average.update_parameters(self.learner)
        self.progress.step = step + 1
        return {"loss": loss.item(), **{name: part.mean().item() for name, part in losses.parts.items()}}

    def _candidate(self) -> MetaLearner:
        return _eval(self.average)

    def _keep(self) -> None:
        self.best.module.load_state_dict(self.average.module.state_dict())

    def _best(self) -> MetaLearner:
        return _eval(self.best)

    def _lr_factor(self, step: int) -> float:
        config = self.config
        if step < config.warm_up:
            return (step + 1) / config.warm_up
        share = (step - config.warm_up) / max(1, config.steps - config.warm_up)
        return float(0.5 * (1 + torch.cos(torch.tensor(share * torch.pi))))

    def _models(self) -> dict[str, torch.nn.Module]:
        return {"learner": self.learner, "average": self.average, "best": self.best}

    def _save(self) -> None:
        checkpoint.save(self.state_file, self._models(), self._optimiser, self.progress)

    def _resume(self) -> None:
        self.progress = checkpoint.restore(self.state_file, self._models(), self._optimiser)
        self._schedule.last_epoch = self.progress.step
        for group in self._optimiser.param_groups:
            group["lr"] = self.config.lr * self._lr_factor(self.progress.step)


def _eval(model: AveragedModel) -> MetaLearner:
    learner = model.module.eval()
    assert isinstance(learner, MetaLearner)
    return learner
