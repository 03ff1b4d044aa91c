"""Figures of a stream of tasks: the accuracy of each task after each one learned, and means along the stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from experiments.continual.records import Record
from experiments.continual.results_page import interval
from experiments.figures import new_figure, to_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

_MOST_COLUMNS = 4
_MOST_NUMBERS = 10
"""Stream tasks up to which cells show their number and curves their markers."""
_WHITE_TEXT = 0.75
"""Accuracy from which a cell is so dark that its number is white."""
_MARKERS = "os^Dv<>PX*hp"


@dataclass(frozen=True)
class Curve:
    """Values after `x` stream tasks, with the half-width of their 95 % intervals; None where there is none."""

    x: Sequence[int]
    mean: Sequence[float]
    half_width: Sequence[float | None]

    @classmethod
    def without_intervals(cls, values: Sequence[float]) -> Curve:
        """Return the curve of one value after each stream task."""
        return cls(range(1, len(values) + 1), values, [None] * len(values))


def matrices(records: Mapping[str, Sequence[Record]], title: str) -> bytes:
    """Draw, for each method, accuracies as a matrix: one row per evaluation, one column per stream task.

    Accuracies are means over the seeds of a method, evaluated when all its seeds were.
    """
    columns = min(_MOST_COLUMNS, len(records))
    rows = -(-len(records) // columns)
    figure = new_figure(2.6 * columns + 0.9, 2.7 * rows + 0.5)
    axes = figure.subplots(rows, columns, squeeze=False)
    for panel, (name, seeds) in zip(axes.flat, records.items(), strict=False):
        image = _matrix(panel, _mean_accuracies(seeds), name)
    for panel in axes.flat[len(records) :]:
        panel.set_axis_off()
    figure.colorbar(image, ax=axes, label="accuracy, %", ticks=(0, 40, 60, 80, 90, 100), shrink=0.8)
    figure.suptitle(title, fontsize=10)
    figure.supxlabel("stream task evaluated", fontsize=9)
    figure.supylabel("stream tasks learned", fontsize=9)
    return to_png(figure)


def curves(records: Mapping[str, Sequence[Record]], title: str) -> bytes:
    """Draw the mean accuracy over the stream tasks so far, and how much of it was forgotten, along the stream."""
    accuracy = {
        name: _over_seeds(seeds, lambda record, at: 100 * float(np.mean(record.accuracy[at])))
        for name, seeds in records.items()
    }
    forgotten = {
        name: _over_seeds(seeds, lambda record, at: 100 * record.forgetting(at + 1))
        for name, seeds in records.items()
    }
    return charts({"mean accuracy, %": accuracy, "forgetting, points": forgotten}, title)


def charts(panels: Mapping[str, Mapping[str, Curve]], title: str) -> bytes:
    """Draw curves side by side, by the label of the y axis. All panels show the same names."""
    figure = new_figure(4.4 * len(panels) + 1.6, 3.4)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for panel, (label, lines) in zip(axes, panels.items(), strict=True):
        for index, (name, curve) in enumerate(lines.items()):
            _curve(panel, curve, name, index)
        panel.set_xlabel("stream tasks learned")
        panel.set_ylabel(label)
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.grid(color="0.9")
        panel.set_axisbelow(True)
    banded = any(
        width is not None for line in panels.values() for c in line.values() for width in c.half_width
    )
    figure.legend(
        *axes[0].get_legend_handles_labels(),
        loc="outside right center",
        fontsize=8,
        title="bands: 95 % over seeds" if banded else None,
        title_fontsize=7,
        frameon=False,
    )
    figure.suptitle(title, fontsize=10)
    return to_png(figure)


def _matrix(panel: Axes, rows: Sequence[Sequence[float]], name: str) -> AxesImage:
    from matplotlib.colors import PowerNorm

    count = len(rows[-1])
    values = np.full((len(rows), count), np.nan)
    for index, row in enumerate(rows):
        values[index, : len(row)] = row
    # Squared, because most accuracies that are compared lie above 90 %.
    # Squared, because most accuracies that are compared lie above 90 %.
    shade = PowerNorm(2, vmin=0, vmax=100)
    image = panel.imshow(100 * values, cmap="Blues", norm=shade, aspect="auto", interpolation="nearest")
    panel.set_title(f"{name}: {100 * np.mean(rows[-1]):.2f} %", fontsize=9)
    ticks = np.unique(np.linspace(0, count - 1, min(count, 5)).round().astype(int))
    panel.set_xticks(ticks, [str(tick + 1) for tick in ticks], fontsize=7)
    shown = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), 5)).round().astype(int))
    panel.set_yticks(shown, [str(len(rows[index])) for index in shown], fontsize=7)
    if count <= _MOST_NUMBERS:
        for (down, across), value in np.ndenumerate(values):
            if not np.isnan(value):
                colour = "white" if value > _WHITE_TEXT else "0.15"
                panel.text(
                    across, down, f"{100 * value:.0f}", ha="center", va="center", fontsize=7, color=colour
                )
    return image


def _curve(panel: Axes, curve: Curve, name: str, index: int) -> None:
    marker = _MARKERS[index % len(_MARKERS)] if len(curve.x) <= _MOST_NUMBERS else None
    # Ten colours in the cycle, so further methods get another line style.
    style = "-" if index < 10 else "--"
    (line,) = panel.plot(
        curve.x,
        curve.mean,
        style,
        label=name,
        marker=marker,
        markersize=3.5,
        linewidth=1.4,
        color=f"C{index % 10}",
    )
    low = [mean - (width or 0.0) for mean, width in zip(curve.mean, curve.half_width, strict=True)]
    high = [mean + (width or 0.0) for mean, width in zip(curve.mean, curve.half_width, strict=True)]
    if low != high:
        panel.fill_between(curve.x, low, high, color=line.get_color(), alpha=0.15, linewidth=0)


def _evaluated_counts(seeds: Sequence[Record]) -> list[int]:
    """Return the numbers of stream tasks after which all seeds were evaluated; the last is among them."""
    return sorted(set.intersection(*({len(row) for row in record.accuracy} for record in seeds)))


def _mean_accuracies(seeds: Sequence[Record]) -> list[list[float]]:
    by_count = [{len(row): row for row in record.accuracy} for record in seeds]
    return [
        [float(value) for value in np.mean([rows[count] for rows in by_count], axis=0)]
        for count in _evaluated_counts(seeds)
    ]


def _over_seeds(seeds: Sequence[Record], value: Callable[[Record, int], float]) -> Curve:
    """Return mean and interval over seeds of `value`, a function of a record and of the index of an evaluation."""
    positions = [{len(row): at for at, row in enumerate(record.accuracy)} for record in seeds]
    counts = _evaluated_counts(seeds)
    spread = [
        interval([value(record, at[count]) for record, at in zip(seeds, positions, strict=True)])
        for count in counts
    ]
    return Curve(counts, [found["mean"] for found in spread], [found["ci95"] for found in spread])
