"""A small labelled set of colour pictures made here: each class is two colours and the place where they meet."""

from __future__ import annotations

import io

import torch
from PIL import Image

from models.data.dataset import ClassDataset


def photos(classes: int = 8, examples: int = 20, side: int = 32, seed: int = 0) -> ClassDataset:
    """Pictures uint8 [n, side, side, 3], in one domain."""
    generator = torch.Generator().manual_seed(seed)
    row = torch.arange(side)[:, None, None]
    pictures = []
    for _ in range(classes):
        above, below = torch.rand((2, 3), generator=generator) * 255
        border = side * (0.3 + 0.4 * torch.rand((), generator=generator))
        for _ in range(examples):
            plain = torch.where(row < border, above, below).expand(side, side, 3)
            noise = 20 * torch.randn((side, side, 3), generator=generator)
            pictures.append((plain + noise).clamp(0, 255).byte())
    return ClassDataset(
        "coloured",
        torch.stack(pictures),
        torch.arange(classes).repeat_interleave(examples),
        tuple(f"class-{index}" for index in range(classes)),
        torch.zeros(classes, dtype=torch.long),
    )


def png(pixels: torch.Tensor, format: str = "PNG") -> bytes:
    """One picture uint8 [height, width, 3] as a file."""
    file = io.BytesIO()
    Image.fromarray(pixels.numpy()).save(file, format)
    return file.getvalue()
