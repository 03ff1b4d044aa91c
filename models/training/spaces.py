"""Training of `hyperkernel` over many feature spaces, from start to artifact.

Experts have no learned numbers, so each task is fitted once: its readings are drawn and kept, then the mixer is trained
on them for some epochs, which takes a minute. The trained mixer is kept in the folder of the run, so that a training
that was killed goes on with the calibration, or starts anew; all draws follow from the seed.
"""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import safetensors.torch as safetensors
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from models import artifact
from models.data import spaces
from models.data.spaces import Space
from models.evaluation.calibrate import CalibrationPlan, calibrate
from models.evaluation.episodic import Features
from models.fewshot.hyperkernel import CALIBRATED_WAYS, ExpertReading, HyperKernel
from models.protocol import FOREIGN, Losses, Support
from models.registry import LearnerConfig, build, input_of
from models.training.card import write_card
from models.training.run_folder import claim
from models.training.trainer import Report

_TASKS = 6
_AT_ONCE = 4
_FARTHEST = 60.0
_TRAINED, _SCORES = "trained.safetensors", "trained.json"


class SpacesRecipe(BaseModel):
    """Settings of a training over spaces."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str = "hyperkernel"
    hparams: dict[str, object] = Field(default_factory=dict)
    dataset: str = "spaces"
    batches: int = Field(default=8, ge=1)
    """Batches of six tasks drawn of each space."""
    epochs: int = Field(default=12, ge=1)
    lr: float = Field(default=3e-3, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    seed: int = 0
    calibration_spaces: int = Field(default=3, ge=1)
    """Validation spaces of each kind to calibrate on."""
    calibration: CalibrationPlan = CalibrationPlan(
        tasks=30, gold_tasks=3, set_tasks=0, most_way=CALIBRATED_WAYS
    )


def train(recipe: SpacesRecipe, data: Path, folder: Path, version: str, command: str, report: Report) -> str:
    """Train into `folder`, save the learner in `folder/learner`, return its digest."""
    claim(folder, recipe)
    fitting, validation = spaces.load(data, "train"), spaces.load(data, "validation")
    config = _config(recipe, fitting, version)
    torch.manual_seed(recipe.seed)
    learner = build(config)
    if not isinstance(learner, HyperKernel):
        raise TypeError(f"{recipe.method} is not trained over spaces")
    learner = learner.eval()
    if (folder / _TRAINED).exists():
        learner.load_state_dict(safetensors.load_file(folder / _TRAINED))
        best = json.loads((folder / _SCORES).read_text(encoding="utf-8"))
    else:
        readings = _read(learner, fitting, recipe, 1, report)
        held_out = _read(learner, validation, recipe, 2, report)
        best = _fit(learner, readings, held_out, recipe, report)
        (folder / _SCORES).write_text(json.dumps(best), encoding="utf-8")
        safetensors.save_file(learner.state_dict(), folder / _TRAINED)
    learner = learner.eval().requires_grad_(False)
    chosen = _of_every_kind(validation, recipe.calibration_spaces)
    calibrate(learner, [_features(space) for space in chosen], recipe.calibration)
    made = {
        "command": command,
        "dataset": f"{len(fitting)} spaces",
        "seed": recipe.seed,
        "tasks_per_space": _TASKS * recipe.batches,
        "best_epoch": best["step"],
    }
    scores = {name: value for name, value in best.items() if name not in ("step", "score")}
    config = config.model_copy(
        update={"training": made, "metrics": {f"validation on {len(validation)} other spaces": scores}}
    )
    return artifact.save(folder / "learner", learner, config, write_card(folder.name, config))


def _config(recipe: SpacesRecipe, fitting: list[Space], version: str) -> LearnerConfig:
    names = "\n".join(space.name for space in fitting)
    return LearnerConfig(
        code_version=version,
        method=recipe.method,
        hparams=recipe.hparams,
        encoder="identity",
        encoder_hparams={},
        input=input_of("identity", {}),
        training_classes=hashlib.sha256(names.encode()).hexdigest(),
    )


Read = tuple[ExpertReading, Tensor]


def _read(
    learner: HyperKernel, found: list[Space], recipe: SpacesRecipe, purpose: int, report: Report
) -> list[Read]:
    """Draw tasks of all spaces and fit their experts, kept in half precision."""
    readings = []
    for place, space in enumerate(found):
        # Spaces of several sources stand for pictures, which are few here and common in use.
        for batch in range(recipe.batches * (3 if len(space.sources) > 1 else 1)):
            tasks = spaces.draw(space, _TASKS, (recipe.seed, purpose, place, batch))
            support = Support.of(tasks.support, tasks.support_y)
            reading = learner.read(support, tasks.query, tasks.sources)
            scores = reading.scores.clamp(-_FARTHEST, _FARTHEST)
            readings.append(
                (replace(reading, outside=reading.outside.half(), scores=scores.half()), tasks.query_y)
            )
        report({"step": 0, "loss": float("nan"), "spaces": place + 1})
    return readings


def _fit(
    learner: HyperKernel,
    readings: list[Read],
    held_out: list[Read],
    recipe: SpacesRecipe,
    report: Report,
) -> dict[str, float]:
    """Train the mixer in place, keep the epoch of least validation loss, return its scores."""
    learner.mixer.standardise(torch.cat([learner.mixer.numbers(r.experts, r.task) for r, _ in readings]))
    steps = recipe.epochs * (len(readings) // _AT_ONCE)
    optimiser = torch.optim.AdamW(learner.parameters(), recipe.lr, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(1, steps))
    rng = np.random.default_rng(recipe.seed)
    best: dict[str, float] = {}
    state = copy.deepcopy(learner.state_dict())
    for epoch in range(1, recipe.epochs + 1):
        total, order = 0.0, rng.permutation(len(readings))
        for start in range(0, len(order) - _AT_ONCE + 1, _AT_ONCE):
            chosen = order[start : start + _AT_ONCE].tolist()
            loss = torch.stack([_losses(learner, readings[i]).total.mean() for i in chosen]).mean()
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            total += float(loss.detach()) * _AT_ONCE / len(order)
        scores = _score(learner, held_out)
        report({"step": epoch, "loss": total, **scores})
        if not best or scores["score"] > best["score"]:
            best, state = {"step": epoch, **scores}, copy.deepcopy(learner.state_dict())
    learner.load_state_dict(state)
    return best


def _losses(learner: HyperKernel, read: Read) -> Losses:
    reading, target = read
    whole = replace(reading, outside=reading.outside.float(), scores=reading.scores.float())
    return learner.losses_of(whole, target, target != FOREIGN, target == FOREIGN)


@torch.no_grad()
def _score(learner: HyperKernel, held_out: list[Read]) -> dict[str, float]:
    totals, nlls, unknowns = [], [], []
    for read in held_out:
        losses = _losses(learner, read)
        totals.append(float(losses.total.mean()))
        nlls.append(float((losses.parts["nll"] / read[0].labels.n_way.log()).mean()))
        if (read[1] == FOREIGN).any():
            unknowns.append(float(losses.parts["unknown"].mean()))
    return {
        "nll_over_log_way": float(np.mean(nlls)),
        "unknown_log_loss": float(np.mean(unknowns)),
        "score": -float(np.mean(totals)),
    }


def _of_every_kind(found: list[Space], most: int) -> list[Space]:
    """Return the first spaces of each kind, the first word of their names, so that tables do not outvote pictures."""
    kinds: dict[str, list[Space]] = {}
    for space in found:
        kinds.setdefault(space.name.partition("_")[0], []).append(space)
    return [space for members in kinds.values() for space in members[:most]]


def _features(space: Space) -> Features:
    """Return the first source of a space, to calibrate on."""
    members = list(space.members)
    return Features(torch.from_numpy(space.sources[0]), members, np.zeros(len(members), dtype=np.int64))
