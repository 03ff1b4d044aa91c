"""Small tasks of the families that only toys belong to: images as fields, point clouds, densities."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from models.testing.tasks import Task


def _whole(rng: torch.Generator, low: int, high: int) -> int:
    return int(torch.randint(low, high + 1, (), generator=rng))


def images(rng: torch.Generator) -> Task:
    """Draw a bright spot somewhere on [-1, 1]², seen at 10 to 30 of its pixels."""
    centre = torch.rand(2, generator=rng) * 1.4 - 0.7
    x = torch.rand(_whole(rng, 30, 50), 2, generator=rng) * 2 - 1
    y = (-4 * (x - centre).square().sum(1, keepdim=True)).exp()
    return Task(x[20:], y[20:], x[:20], y[:20])


def clouds(rng: torch.Generator) -> Task:
    """Draw points on an ellipse; queries are base noise on a disc."""
    centre, radii = torch.randn(2, generator=rng), 0.3 + torch.rand(2, generator=rng)
    angle = torch.rand(_whole(rng, 24, 40), generator=rng) * 2 * torch.pi
    points = centre + radii * torch.stack((angle.cos(), angle.sin()), 1)
    noise = F.normalize(torch.randn(16, 2, generator=rng), dim=1)
    return Task(points[16:], None, noise, points[:16])


def densities(rng: torch.Generator) -> Task:
    """Draw y ~ N((2x₀, −x₁), (0.3 + |x₀|/2)²) given x, which stands in the support set once or several times."""
    x = torch.randn(2, generator=rng)
    mean, scale = x * torch.tensor([2.0, -1.0]), 0.3 + x[0].abs() / 2
    y = mean + scale * torch.randn(12, 2, generator=rng)
    return Task(x.expand(_whole(rng, 1, 3), 2), None, y, y, seed=_whole(rng, 0, 2**40))
