"""Bayes by Backprop on MNIST, one task: error, calibration, detection of unknown inputs, and pruning.

Test digits are evaluated once, with settings chosen on held-out training digits (`Digits.held_out`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from experiments.bayes_by_backprop_training import (
    EpochCallback,
    VariationalConfig,
    averaged_probabilities,
    train_variational,
)
from models.bayes.variational import MeanField
from models.data.mnist import CLASSES, Digits
from models.evaluation.scores import MeanEstimate, auroc, brier, calibration_error
from models.predictive import categorical_entropy

SAMPLES = 10
HELD_OUT = 10_000
PRUNED = (0.5, 0.75, 0.95, 0.98)


def evaluate(digits: Digits, config: VariationalConfig, report: EpochCallback) -> dict[str, Any]:
    """Train on the training digits and measure on the others. Intervals are 95 % over images."""
    field = train_variational(digits.train_x.flatten(1), digits.train_y, CLASSES, config, report)
    return {
        "protocol": "MNIST, one task: an MLP of Gaussian weights, no augmentation; prior: a mixture for each weight",
        "training_digits": len(digits.train_y),
        "test_digits": len(digits.test_y),
        "samples": SAMPLES,
        "settings": config.model_dump(),
        "weights": sum(mean.numel() for mean in field.means.values()),
        "posterior_sha256": _digest(field)[:16],
        **measure(field, digits, config.seed),
    }


@torch.no_grad()
def measure(field: MeanField, digits: Digits, seed: int = 0) -> dict[str, list[dict[str, Any]]]:
    """Return tables: predictions of the mean and of sampled networks, of pruned ones, and entropies on other images."""
    x, y = digits.test_x.flatten(1), digits.test_y
    mean = field(x).softmax(-1)
    averaged, _ = _averaged(field, x, seed)
    answers = [
        {"answer": "mean weights", **_scores(mean, y)},
        {"answer": f"average of {SAMPLES} drawn networks", **_scores(averaged, y)},
    ]
    pruned = [
        {"share_at_0": share, **_scores(field(x, field.pruned(share)).softmax(-1), y)}
        for share in (0.0, *PRUNED)
    ]
    return {
        "answers": answers,
        "pruned_by_signal_to_noise": pruned,
        "entropy": _entropies(field, digits, seed),
    }


def _entropies(field: MeanField, digits: Digits, seed: int) -> list[dict[str, Any]]:
    """Return entropies of the averaged prediction, in nats, and the AUROC of telling images from test digits by
    them."""
    kinds: dict[str, Callable[[Tensor], Tensor]] = {
        "test digits": lambda x: x,
        "turned by 90°": lambda x: x.rot90(1, (1, 2)),
        "upside down": lambda x: x.rot90(2, (1, 2)),
        "pixels shuffled": lambda x: _shuffled(x, seed),
    }
    rows: list[dict[str, Any]] = []
    usual: dict[str, Tensor] = {}
    for name, change in kinds.items():
        averaged, expected = _averaged(field, change(digits.test_x).flatten(1), seed)
        total = categorical_entropy(averaged.log())
        mutual = (total - expected).clamp_min(0)
        found = {"entropy": total, "mutual_information": mutual}
        usual = usual or found
        row = {"images": name, "expected_entropy": float(expected.mean())}
        for score, value in found.items():
            both = torch.cat((usual[score], value))
            row[score] = float(value.mean())
            row[f"auroc_{score}"] = auroc(both, torch.arange(len(both)) >= len(value))
        rows.append(row)
    return rows


def _averaged(
    field: MeanField, x: Float[Tensor, "n d"], seed: int
) -> tuple[Float[Tensor, "n classes"], Float[Tensor, "n"]]:
    return averaged_probabilities(field, x, SAMPLES, torch.Generator().manual_seed(seed + 1))


def _scores(probabilities: Float[Tensor, "n classes"], target: Int[Tensor, "n"]) -> dict[str, Any]:
    confidence, label = probabilities.max(-1)
    picked = probabilities.gather(1, target[:, None])[:, 0].clamp_min(1e-12)
    return {
        "error_percent": asdict(MeanEstimate.over(100 * (label != target).float())),
        "nll": asdict(MeanEstimate.over(-picked.log())),
        "ece": calibration_error(confidence, label == target),
        "brier": brier(probabilities, target),
    }


def _shuffled(x: Float[Tensor, "n 28 28"], seed: int) -> Float[Tensor, "n 28 28"]:
    """Permute the pixels of all images alike: as bright as digits, but not digits."""
    order = torch.randperm(x[0].numel(), generator=torch.Generator().manual_seed(seed))
    return x.flatten(1)[:, order].view_as(x)


def _digest(field: MeanField) -> str:
    digest = hashlib.sha256()
    for name, mean in sorted(field.means.items()):
        digest.update(mean.numpy().tobytes())
        digest.update(field.deviations[name].numpy().tobytes())
    return digest.hexdigest()
