"""A small labelled set of glyph-like pictures made here: each class is a few strokes, each example a wobble of them."""

from __future__ import annotations

import torch

from models.data.dataset import ClassDataset


def glyphs(classes: int = 12, examples: int = 20, side: int = 56, seed: int = 0) -> ClassDataset:
    """Ink pictures uint8 [n, side, side]; classes are shared out over three domains."""
    generator = torch.Generator().manual_seed(seed)
    line = torch.linspace(-1, 1, side)
    y, x = torch.meshgrid(line, line, indexing="ij")
    pictures = []
    for _ in range(classes):
        ends = torch.rand((3, 2, 2), generator=generator) * 1.4 - 0.7
        for _ in range(examples):
            wobble = ends + 0.08 * torch.randn(ends.shape, generator=generator)
            ink = torch.zeros(side, side)
            for start, end in wobble:
                along = end - start
                share = ((x - start[0]) * along[0] + (y - start[1]) * along[1]) / along.square().sum()
                share = share.clamp(0, 1)
                distance = (x - start[0] - share * along[0]).square() + (
                    y - start[1] - share * along[1]
                ).square()
                ink = torch.maximum(ink, (distance < 0.006).float())
            pictures.append(ink)
    return ClassDataset(
        "drawn",
        torch.stack(pictures).mul(255).byte(),
        torch.arange(classes).repeat_interleave(examples),
        tuple(f"class-{index}" for index in range(classes)),
        torch.arange(classes) % 3,
    )
