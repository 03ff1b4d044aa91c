"""Figures as PNG files, drawn by matplotlib, which is imported on first use and needed for nothing else."""

from __future__ import annotations

import importlib.util
import io
from typing import TYPE_CHECKING

from PIL import Image

from experiments.errors import ExperimentError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def check_matplotlib() -> None:
    """Raise `ExperimentError` if matplotlib is not installed. Call it before long work whose result is drawn."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ExperimentError("figures need matplotlib, which is not installed: pip install -e '.[plots]'")


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of this size in inches. Raise `ExperimentError` if matplotlib is not installed."""
    check_matplotlib()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=100, layout="constrained")


def to_png(figure: Figure) -> bytes:
    """Render a figure. The same figure gives the same bytes."""
    drawn, reduced = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png")
    # A palette makes the file a quarter as large; maximum coverage keeps the colours of thin lines.
    palette = (
        Image.open(drawn).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    )
    palette.save(reduced, "PNG", optimize=True)
    return reduced.getvalue()
