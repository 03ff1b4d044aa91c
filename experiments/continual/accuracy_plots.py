"""What a stream forgets, as small PNGs: accuracy of each stream task after each, and means along the stream."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw

from experiments.continual.records import Record

_INK, _PALE, _DARK = (40, 40, 40), (245, 246, 250), (25, 65, 130)
_SIDE, _MARGIN, _TITLE, _COLUMNS = 180, 26, 36, 4
_MOST_NUMBERS = 10
_WIDE, _HIGH, _LEGEND = 420, 260, 130
_LINES = (
    (31, 119, 180), (214, 39, 40), (44, 160, 44), (255, 127, 14), (148, 103, 189), (140, 86, 75),
    (227, 119, 194), (90, 90, 90), (160, 160, 20), (23, 170, 190), (0, 0, 0), (100, 200, 120),
)  # fmt: skip
Matrix = Sequence[Sequence[float]]
Line = Sequence[float | None]


def matrices(records: Mapping[str, Sequence[Record]], title: str) -> bytes:
    """For each method, mean over its seeds: a row for each point in time, a column for each stream task."""
    columns = min(_COLUMNS, len(records))
    rows = -(-len(records) // columns)
    cell = _SIDE + 2 * _MARGIN
    sheet = Image.new("RGB", (columns * cell, _TITLE + rows * (cell + _TITLE // 2)), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, 4), f"{title}: accuracy in per cent", fill=_INK)
    draw.text((_MARGIN, 18), "down: stream tasks learned; across: the one that is asked", fill=_INK)
    for index, (name, found) in enumerate(records.items()):
        left = index % columns * cell + _MARGIN
        top = _TITLE + index // columns * (cell + _TITLE // 2) + _MARGIN
        _matrix(draw, left, top, _mean(found), name)
    return _png(sheet)


def curves(records: Mapping[str, Sequence[Record]], title: str) -> bytes:
    """Mean accuracy over the stream tasks so far, and what was forgotten of them, along the stream."""
    accuracy = {
        name: _spread(found, [[100 * sum(row) / len(row) for row in one.accuracy] for one in found])
        for name, found in records.items()
    }
    forgotten = {
        name: _spread(
            found, [[100 * one.forgetting(upto + 1) for upto in range(len(one.accuracy))] for one in found]
        )
        for name, found in records.items()
    }
    return charts({"mean accuracy, %": accuracy, "forgotten, points": forgotten}, title)


def charts(panels: Mapping[str, Mapping[str, Line]], title: str) -> bytes:
    """Side by side, of values after 1, 2, … stream tasks, None where there is none; the same names in each."""
    wide = _WIDE + 2 * _MARGIN
    sheet = Image.new("RGB", (len(panels) * wide + _LEGEND, _HIGH + 2 * _MARGIN + _TITLE), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, 4), title, fill=_INK)
    for index, (said, lines) in enumerate(panels.items()):
        _axes(draw, index * wide + _MARGIN + 8, lines, said)
    for index, name in enumerate(next(iter(panels.values()))):
        spot = (len(panels) * wide + 12, _TITLE + _MARGIN + 16 * index)
        draw.line((*spot, spot[0] + 16, spot[1]), fill=_LINES[index % len(_LINES)], width=3)
        draw.text((spot[0] + 22, spot[1] - 6), name, fill=_INK)
    return _png(sheet)


def _matrix(draw: ImageDraw.ImageDraw, left: int, top: int, rows: Matrix, name: str) -> None:
    times, count = len(rows), len(rows[-1])
    draw.text((left, top - 14), f"{name}: {100 * sum(rows[-1]) / count:.2f}", fill=_INK)
    for time, row in enumerate(rows):
        for task, value in enumerate(row):
            # Squared, since most of what is compared lies above 90 %.
            strength = value**2
            colour = tuple(round(p + strength * (d - p)) for p, d in zip(_PALE, _DARK, strict=True))
            box = (
                left + round(_SIDE * task / count),
                top + round(_SIDE * time / times),
                left + round(_SIDE * (task + 1) / count) - 1,
                top + round(_SIDE * (time + 1) / times) - 1,
            )
            draw.rectangle(box, fill=colour)
            if count <= _MOST_NUMBERS:
                spot = ((box[0] + box[2]) // 2 - 6, (box[1] + box[3]) // 2 - 5)
                draw.text(spot, f"{100 * value:.0f}", fill="white" if strength > 0.5 else _INK)
    draw.rectangle((left, top, left + _SIDE, top + _SIDE), outline=_INK)


def _axes(draw: ImageDraw.ImageDraw, left: int, lines: Mapping[str, Line], said: str) -> None:
    top, bottom = _TITLE + _MARGIN, _TITLE + _MARGIN + _HIGH
    values = [value for line in lines.values() for value in line if value is not None]
    low, high = min(0.0, *values) if min(values) < 50 else 10 * (min(values) // 10), max(*values, 1.0)
    high = max(high, low + 1)
    count = max(len(line) for line in lines.values())

    def spot(index: int, value: float) -> tuple[int, int]:
        across = index / max(count - 1, 1)
        return left + round(_WIDE * across), bottom - round(_HIGH * (value - low) / (high - low))

    for part in range(5):
        value = low + part / 4 * (high - low)
        _, height = spot(0, value)
        draw.line((left, height, left + _WIDE, height), fill=(225, 225, 225))
        draw.text((left - 30, height - 6), f"{value:.1f}", fill=_INK)
    draw.rectangle((left, top, left + _WIDE, bottom), outline=_INK)
    draw.text((left, top - 16), said, fill=_INK)
    draw.text((left + _WIDE // 2 - 60, bottom + 6), f"stream tasks learned, 1 to {count}", fill=_INK)
    for index, line in enumerate(lines.values()):
        spots = [spot(at, value) for at, value in enumerate(line) if value is not None]
        colour = _LINES[index % len(_LINES)]
        if len(spots) > 1:
            draw.line(spots, fill=colour, width=2)
        for x, y in spots if count <= _MOST_NUMBERS else ():
            draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill=colour)


def _asked(found: Sequence[Record]) -> list[int]:
    """How many stream tasks had been learned when all seeds were asked: always after the last of them."""
    return sorted(set.intersection(*({len(row) for row in record.accuracy} for record in found)))


def _mean(found: Sequence[Record]) -> Matrix:
    rows = [{len(row): row for row in record.accuracy} for record in found]
    return [_along([each[count] for each in rows]) for count in _asked(found)]


def _spread(found: Sequence[Record], lines: Sequence[Sequence[float]]) -> Line:
    """Mean over seeds, each value at the number of stream tasks that had been learned."""
    values = [
        dict(zip(map(len, record.accuracy), line, strict=True))
        for record, line in zip(found, lines, strict=True)
    ]
    asked = _asked(found)
    means = dict(zip(asked, _along([[each[count] for count in asked] for each in values]), strict=True))
    return [means.get(count) for count in range(1, asked[-1] + 1)]


def _along(found: Sequence[Sequence[float]]) -> list[float]:
    return [sum(values) / len(values) for values in zip(*found, strict=True)]


def _png(sheet: Image.Image) -> bytes:
    found = io.BytesIO()
    sheet.quantize(128).save(found, "PNG", optimize=True)
    return found.getvalue()
