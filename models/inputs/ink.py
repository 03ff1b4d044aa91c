"""Pictures of any size, colour and polarity to 28×28 grey glyphs with high ink.

Training, evaluation and serving call the same function, so that they see the same numbers for the same bytes.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

MIN_CONTRAST = 16
"""A picture whose strongest deviation from its background is smaller (of 255) is blank."""


BOX_PER_MARGIN = 12
"""Size of a cropped glyph over the margin on each side: 2 pixels of 28 stay free."""
_INK = 0.25
"""Least ink that counts as a stroke when a glyph is cropped."""


def ink(
    images: UInt8[Tensor, "n height width channels"], size: int = 28, *, crop: bool = False
) -> Float[Tensor, "n 1 size size"]:
    """Return ink in [0, 1] on a square of `size`: background 0, the strongest stroke 1, blank pictures all 0.

    The background is the median of the border per channel; ink is the largest deviation from it over the
    channels, so dark on white, white on dark and colour on colour become the same. Strokes are scaled to 1
    before the picture is padded to a square with background and averaged over areas. With `crop` the box of
    the strokes is cut out first, so that neither place nor size of a glyph on its paper matter.
    """
    pixels = images.permute(0, 3, 1, 2).float()
    border = torch.cat((pixels[:, :, 0], pixels[:, :, -1], pixels[:, :, :, 0], pixels[:, :, :, -1]), dim=2)
    background = border.median(dim=2).values[:, :, None, None]
    deviation = (pixels - background).abs().amax(dim=1, keepdim=True)
    contrast = deviation.amax(dim=(1, 2, 3), keepdim=True)
    strokes = torch.where(contrast < MIN_CONTRAST, 0.0, deviation / contrast.clamp_min(1))
    if crop:
        return torch.cat([area_resize(_framed(stroke), size) for stroke in strokes.split(1)])
    return area_resize(_square(strokes), size)


def area_resize(x: Float[Tensor, "n channels side side"], size: int) -> Float[Tensor, "n channels size size"]:
    """Resize to `size`: the exact area average of a larger picture, bilinear interpolation of a smaller one.

    `F.interpolate(mode="area")` rounds its windows to whole pixels (105 → 28 would weigh pixels unevenly),
    so the average is a product with two matrices of overlaps.
    """
    side = x.shape[-1]
    if side == size:
        return x
    if side < size:
        return F.interpolate(x, size=(size, size), mode="bilinear", align_corners=False)
    weights = _overlaps(side, size).to(x)
    return weights @ x @ weights.T


@lru_cache(maxsize=256)
def _overlaps(side: int, size: int) -> Float[Tensor, "size side"]:
    """Return the share of each source pixel in each target pixel; rows sum to 1."""
    edges = torch.arange(size + 1, dtype=torch.float64) * side / size
    pixels = torch.arange(side, dtype=torch.float64)
    low = torch.maximum(edges[:-1, None], pixels)
    high = torch.minimum(edges[1:, None], pixels + 1)
    return ((high - low).clamp_min(0) * size / side).float()


def _square(x: Float[Tensor, "n 1 height width"]) -> Float[Tensor, "n 1 side side"]:
    height, width = x.shape[-2:]
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    return F.pad(x, (left, side - width - left, top, side - height - top))


def _framed(stroke: Float[Tensor, "1 1 height width"]) -> Float[Tensor, "1 1 side side"]:
    """Return the box of the strokes, centred, with a margin. A blank picture stays whole."""
    inside = stroke[0, 0] > _INK
    if not bool(inside.any()):
        return _square(stroke)
    rows, columns = (inside.any(dim).nonzero()[:, 0] for dim in (1, 0))
    box = _square(stroke[..., rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    side = box.shape[-1]
    return F.pad(box, 4 * (round(side / BOX_PER_MARGIN),))
