"""Reliability diagrams (DeGroot, Fienberg 1983): accuracy over stated confidence.

There is a bar for each bin of the calibration error, the darker the more queries it holds. The bars of a calibrated
learner end on the diagonal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.figures import new_figure, to_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable


def diagrams(cells: Sequence[dict[str, Any]], title: str) -> bytes:
    """Draw one diagram for each cell, side by side. A cell has `way`, `shot`, `ece` and `reliability`."""
    figure = new_figure(3.2 * len(cells) + 0.9, 3.7)
    axes = figure.subplots(1, len(cells), squeeze=False)[0]
    shade = _shade(100 * max(one["share"] for cell in cells for one in cell["reliability"]))
    for panel, cell in zip(axes, cells, strict=True):
        _diagram(panel, cell["reliability"], shade)
        panel.set_title(f"{cell['way']}-way {cell['shot']}-shot, ECE {100 * cell['ece']:.1f} %", fontsize=9)
    axes[0].set_ylabel("accuracy")
    figure.colorbar(shade, ax=axes, label="share of queries, %", shrink=0.85)
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8, frameon=False
    )
    figure.suptitle(title, fontsize=10)
    return to_png(figure)


def _shade(most: float) -> ScalarMappable:
    """Return the colours of bars by their share of queries in per cent."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    return ScalarMappable(Normalize(0, most), "Blues")


def _diagram(panel: Axes, bins: list[dict[str, Any]], shade: ScalarMappable) -> None:
    filled = [(index, one) for index, one in enumerate(bins) if one["accuracy"] is not None]
    panel.bar(
        [(index + 0.5) / len(bins) for index, _ in filled],
        [one["accuracy"] for _, one in filled],
        width=0.94 / len(bins),
        color=shade.to_rgba(np.array([100 * one["share"] for _, one in filled])),
        edgecolor="0.6",
        linewidth=0.5,
        label="accuracy in bin",
    )
    panel.plot((0, 1), (0, 1), "--", color="C3", linewidth=1, label="perfect calibration")
    confidence = [one["confidence"] for _, one in filled]
    panel.plot(
        confidence,
        [one["accuracy"] for _, one in filled],
        "o",
        color="0.15",
        markersize=3,
        label="mean confidence",
    )
    panel.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", aspect="equal")
