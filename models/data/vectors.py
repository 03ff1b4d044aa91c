"""Synthetic embedding spaces, to calibrate learners that take vectors of any origin.

Real embeddings differ in dimension, spectrum, class hierarchy, tails, offset and norm: each space draws all of
these, so that a fit to many of them holds on new spaces.
"""

from __future__ import annotations

import numpy as np
import torch

from models.data.dataset import ClassDataset

_CLASSES = 120
_EXAMPLES = 20
_GROUPS = 8


def space(seed: int) -> ClassDataset:
    """Draw one space: class means on a tree, power-law spectrum, Gaussian or heavy-tailed classes."""
    rng = np.random.default_rng((20_26, seed))
    dim = int(np.exp(rng.uniform(np.log(8), np.log(512))))
    spectrum = np.arange(1, dim + 1) ** -rng.uniform(0.0, 0.9)
    groups = rng.standard_normal((_GROUPS, dim)) * rng.uniform(0.2, 1.0)
    means = groups[rng.integers(_GROUPS, size=_CLASSES)] + rng.standard_normal((_CLASSES, dim))
    noise = rng.standard_normal((_CLASSES, _EXAMPLES, dim))
    if rng.random() < 0.5:
        tails = rng.chisquare(5, size=(_CLASSES, _EXAMPLES, 1)) / 5
        noise = noise / np.sqrt(tails)
    within = np.exp(rng.uniform(np.log(0.35), np.log(1.8))) * np.exp(
        0.2 * rng.standard_normal((_CLASSES, 1, 1))
    )
    x = (means[:, None] + within * noise) * np.sqrt(spectrum)
    x = x + rng.uniform(0, 2) * rng.standard_normal(dim) * np.sqrt(spectrum)
    if rng.random() < 0.5:
        x = x / np.linalg.norm(x, axis=-1, keepdims=True)
    x = x * np.exp(rng.uniform(-2, 2))
    return ClassDataset(
        f"synthetic space {seed}",
        torch.from_numpy(x.reshape(-1, dim)).float(),
        torch.arange(_CLASSES).repeat_interleave(_EXAMPLES),
        tuple(f"space-{seed}/class-{index}" for index in range(_CLASSES)),
        torch.zeros(_CLASSES, dtype=torch.long),
    )
