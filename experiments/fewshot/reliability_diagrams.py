"""Reliability diagrams (DeGroot, Fienberg 1983): accuracy over stated confidence, as a small PNG.

A bar per bin of the calibration error, as dark as the bin has queries; honest confidence ends bars on the diagonal.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageDraw

_SIDE, _MARGIN, _TITLE = 220, 34, 18
_INK, _PALE, _RED = (40, 40, 40), (205, 215, 230), (190, 40, 40)
_DARK = (35, 75, 140)
_TICKS = (0.0, 0.5, 1.0)


def diagrams(cells: Sequence[dict[str, Any]], title: str) -> bytes:
    """A PNG of one diagram for each cell, side by side. A cell has `way`, `shot`, `ece` and `reliability`."""
    width, height = _SIDE + 2 * _MARGIN, _SIDE + 2 * _MARGIN + _TITLE
    sheet = Image.new("RGB", (width * len(cells), height), "white")
    for index, cell in enumerate(cells):
        said = f"{cell['way']}-way {cell['shot']}-shot, ECE {100 * cell['ece']:.1f} %"
        _diagram(ImageDraw.Draw(sheet), index * width + _MARGIN, cell["reliability"], said)
    ImageDraw.Draw(sheet).text((_MARGIN, 2), title, fill=_INK)
    found = io.BytesIO()
    sheet.quantize(64).save(found, "PNG", optimize=True)
    return found.getvalue()


def _diagram(draw: ImageDraw.ImageDraw, left: int, bins: list[dict[str, Any]], said: str) -> None:
    top, bottom = _TITLE + _MARGIN, _TITLE + _MARGIN + _SIDE
    most = max(one["share"] for one in bins)
    for index, one in enumerate(bins):
        if one["accuracy"] is None:
            continue
        edges = (
            left + round(_SIDE * index / len(bins)) + 1,
            left + round(_SIDE * (index + 1) / len(bins)) - 1,
        )
        strength = (one["share"] / most) ** 0.5
        colour = tuple(round(p + strength * (d - p)) for p, d in zip(_PALE, _DARK, strict=True))
        draw.rectangle((edges[0], bottom - round(_SIDE * one["accuracy"]), edges[1], bottom), fill=colour)
        spot = (left + round(_SIDE * one["confidence"]), bottom - round(_SIDE * one["accuracy"]))
        draw.ellipse((spot[0] - 2, spot[1] - 2, spot[0] + 2, spot[1] + 2), fill=_INK)
    draw.line((left, bottom, left + _SIDE, top), fill=_RED)
    draw.rectangle((left, top, left + _SIDE, bottom), outline=_INK)
    for tick in _TICKS:
        draw.text((left + round(_SIDE * tick) - 8, bottom + 4), f"{tick:.1f}", fill=_INK)
        draw.text((left - 22, bottom - round(_SIDE * tick) - 6), f"{tick:.1f}", fill=_INK)
    draw.text((left, top - 14), said, fill=_INK)
    draw.text((left + _SIDE // 2 - 30, bottom + 16), "confidence", fill=_INK)
