"""Augmentation of glyphs as by other hands and pens: random affine, elastic and stroke-width changes, on batches.

A *style* (slant, scale, turn, stroke width, softness) is drawn once per task for half of the tasks, as one
hand writes a whole support set, and per picture for the rest; small changes per picture come on top.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn import functional as F

from models.augmentation import Augmentation
from models.data.dataset import DatasetError

_STYLE_TERMS = 7
_ELASTIC_KNOTS = 4


class GlyphAugmentation(Augmentation):
    turn: float = 0.18
    """Radians at most."""
    shear: float = 0.2
    scale: float = 0.18
    """Largest relative change of size, per axis."""
    shift: float = 0.1
    """Share of half the side."""
    elastic: float = 0.05
    thicker: float = 0.8
    thinner: float = 0.5
    """Stroke change: pixels of dilation at the stored side, per side of the stroke."""
    blur: float = 0.4
    jitter: float = 0.35
    """Change per picture, as a share of the change per style."""
    one_hand: float = 0.5
    """Share of tasks written in one style."""

    def scaled(self, strength: float) -> GlyphAugmentation:
        """Return every change of a glyph times `strength`; the sharing of styles stays."""
        changes = ("turn", "shear", "scale", "shift", "elastic", "thicker", "thinner", "blur")
        return self.model_copy(update={name: getattr(self, name) * strength for name in changes})

    def __call__(
        self, inputs: Tensor, task: Int[Tensor, "n"], generator: torch.Generator
    ) -> Float[Tensor, "n 1 half half"]:
        if inputs.ndim != 3 or inputs.dtype != torch.uint8:
            raise DatasetError("the augmentation of glyphs takes pictures of strokes alone, [n, side, side]")
        return augment(inputs, task, self, generator)


def augment(
    pictures: UInt8[Tensor, "n side side"],
    task: Int[Tensor, "n"],
    config: GlyphAugmentation,
    generator: torch.Generator,
) -> Float[Tensor, "n 1 half half"]:
    """Return ink in [0, 1] at half the side. Pictures with the same `task` belong together."""
    n, tasks = len(pictures), int(task.max()) + 1
    own = _uniform((n, _STYLE_TERMS), generator)
    shared = _uniform((tasks, _STYLE_TERMS), generator)[task]
    one_hand = (torch.rand(tasks, generator=generator) < config.one_hand)[task]
    style = torch.where(one_hand[:, None], shared + config.jitter * own, own).clamp(-1, 1)
    x = pictures[:, None].float() / 255
    x = F.grid_sample(x, _grid(style, x.shape[-1], config, generator), align_corners=False)
    x = _stroke(x, style[:, 5], config)
    return _halve(x, style[:, 6], config)


def _uniform(shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator) * 2 - 1


def _grid(
    style: Float[Tensor, "n terms"], side: int, config: GlyphAugmentation, generator: torch.Generator
) -> Float[Tensor, "n side side 2"]:
    """Return the place that each pixel is read from: an affine map plus a smooth bend, as one matrix product."""
    n = len(style)
    turn, shear = style[:, 0] * config.turn, style[:, 1] * config.shear
    stretch = style[:, 2:4] * config.scale * 0.5 + style[:, 4:5] * config.scale * 0.5
    cos, sin = turn.cos(), turn.sin()
    rows = torch.stack((cos, -sin + shear, sin, cos), dim=1).view(n, 2, 2) * (1 + stretch)[:, :, None]
    shift = _uniform((n, 2), generator)[:, :, None] * config.shift
    knots = torch.randn((n, 2, _ELASTIC_KNOTS**2), generator=generator) * config.elastic
    coefficients = torch.cat((rows, shift, knots), dim=2)
    return (coefficients @ _basis(side)).permute(0, 2, 1).reshape(n, side, side, 2)


@cache
def _basis(side: int) -> Float[Tensor, "terms pixels"]:
    """Return coordinates x, y, 1 and the bicubic bumps of the elastic knots, at every pixel."""
    line = (torch.arange(side) + 0.5) * 2 / side - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    knots = torch.eye(_ELASTIC_KNOTS**2).view(-1, 1, _ELASTIC_KNOTS, _ELASTIC_KNOTS)
    bumps = F.interpolate(knots, size=(side, side), mode="bicubic", align_corners=True)
    return torch.cat((torch.stack((x, y, torch.ones_like(x))), bumps[:, 0])).flatten(1)


def _stroke(
    x: Float[Tensor, "n 1 side side"], width: Float[Tensor, "n"], config: GlyphAugmentation
) -> Float[Tensor, "n 1 side side"]:
    """Move towards the maximum of the four neighbours (thicker) or their minimum (thinner), a pixel at a time."""
    change = torch.where(width > 0, width * config.thicker, width * config.thinner)[:, None, None, None]
    sign = torch.where(change > 0, 1.0, -1.0)
    for done in range(math.ceil(max(config.thicker, config.thinner))):
        signed = F.pad(x * sign, (1, 1, 1, 1), value=-1.0)
        across = torch.maximum(signed[..., 1:-1, :-2], signed[..., 1:-1, 2:])
        along = torch.maximum(signed[..., :-2, 1:-1], signed[..., 2:, 1:-1])
        extreme = torch.maximum(torch.maximum(across, along), signed[..., 1:-1, 1:-1]) * sign
        x = x.lerp(extreme.clamp_min(0), (change.abs() - done).clamp(0, 1))
    return x


def _halve(
    x: Float[Tensor, "n 1 side side"], softness: Float[Tensor, "n"], config: GlyphAugmentation
) -> Float[Tensor, "n 1 half half"]:
    """Return the area average at half the side, and for soft styles a wider one."""
    sharp = F.avg_pool2d(x, 2)
    soft = F.avg_pool2d(sharp, 3, stride=1, padding=1)
    return sharp.lerp(soft, softness.clamp_min(0)[:, None, None, None] * config.blur)
