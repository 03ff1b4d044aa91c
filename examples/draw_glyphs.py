"""Draw examples/glyphs: five invented signs and a foreign one, each drawing with random variations.

    python examples/draw_glyphs.py [FOLDER]

A sign is a list of strokes, and a stroke a list of points in the unit square with y down. A drawing moves the
points slightly, tilts and stretches the sign, joins the points by a smooth curve and inks it with a round pen.
"""

from __future__ import annotations

import math
import random
import sys
from itertools import pairwise
from pathlib import Path

from PIL import Image, ImageDraw

Point = tuple[float, float]
Stroke = list[Point]

SIDE = 105
"""Side in pixels, as usual for drawings of characters."""
FINE = 8
"""Drawings are made this much larger and averaged down, for smooth edges."""
SUPPORT, QUERIES = 3, 2


def arc(x: float, y: float, radius: float, start: float, stop: float, points: int = 9) -> Stroke:
    """Return part of a circle; angles are in turns, clockwise from the right."""
    turns = [start + (stop - start) * number / (points - 1) for number in range(points)]
    return [
        (x + radius * math.cos(2 * math.pi * turn), y + radius * math.sin(2 * math.pi * turn))
        for turn in turns
    ]


def spiral(x: float, y: float, radius: float, turns: float, points: int = 19) -> Stroke:
    """Return a spiral from the centre outwards."""
    shares = [number / (points - 1) for number in range(points)]
    return [
        (
            x + radius * share * math.cos(2 * math.pi * turns * share),
            y + radius * share * math.sin(2 * math.pi * turns * share),
        )
        for share in shares
    ]


SIGNS: dict[str, list[Stroke]] = {
    "snail": [spiral(0.5, 0.42, 0.3, 2.1), [(0.12, 0.82), (0.4, 0.78), (0.65, 0.8), (0.9, 0.72)]],
    "trident": [
        [(0.5, 0.1), (0.5, 0.5), (0.5, 0.92)],
        [(0.2, 0.12), (0.2, 0.34), (0.32, 0.48), (0.5, 0.52), (0.68, 0.48), (0.8, 0.34), (0.8, 0.12)],
    ],
    "ladder": [
        [(0.3, 0.08), (0.28, 0.5), (0.26, 0.93)],
        [(0.7, 0.08), (0.72, 0.5), (0.74, 0.93)],
        [(0.3, 0.27), (0.7, 0.25)],
        [(0.28, 0.52), (0.72, 0.5)],
        [(0.27, 0.76), (0.73, 0.75)],
    ],
    "fish": [
        [(0.1, 0.3), (0.35, 0.62), (0.62, 0.7), (0.9, 0.5)],
        [(0.1, 0.7), (0.35, 0.38), (0.62, 0.3), (0.9, 0.5)],
    ],
    "balance": [
        [(0.12, 0.3), (0.5, 0.24), (0.88, 0.3)],
        [(0.5, 0.1), (0.5, 0.5), (0.5, 0.9)],
        arc(0.2, 0.42, 0.15, 0.0, 0.5, 7),
        arc(0.8, 0.42, 0.15, 0.0, 0.5, 7),
    ],
}
FOREIGN: dict[str, list[Stroke]] = {
    "umbrella": [
        arc(0.5, 0.5, 0.38, 0.5, 1.0, 9),
        [(0.12, 0.5), (0.5, 0.5), (0.88, 0.5)],
        [(0.5, 0.5), (0.5, 0.84), (0.42, 0.93), (0.33, 0.86)],
    ],
}


def draw(sign: list[Stroke], hand: random.Random) -> Image.Image:
    """Return one drawing of a sign: dark ink on white, 8-bit grey, SIDE × SIDE."""
    image = Image.new("L", (SIDE * FINE, SIDE * FINE), 255)
    pen = ImageDraw.Draw(image)
    tilt = hand.gauss(0, 0.05)
    wide, high, slant = (hand.gauss(mean, 0.05) for mean in (0.82, 0.82, 0.0))
    right, down = hand.gauss(0.5, 0.02), hand.gauss(0.5, 0.02)
    width = hand.uniform(2.4, 3.2)
    for stroke in sign:
        placed = []
        for x, y in stroke:
            x, y = x - 0.5 + hand.gauss(0, 0.012), y - 0.5 + hand.gauss(0, 0.012)
            x, y = wide * (x + slant * y), high * y
            x, y = x * math.cos(tilt) - y * math.sin(tilt), x * math.sin(tilt) + y * math.cos(tilt)
            placed.append((right + x, down + y))
        _ink(pen, _smooth(placed), width, hand)
    return image.resize((SIDE, SIDE), Image.Resampling.BOX)


def _smooth(points: Stroke, steps: int = 24) -> Stroke:
    """Return a Catmull-Rom curve through the points."""
    path = [points[0], *points, points[-1]]
    curve = []
    for before, start, stop, after in zip(path, path[1:], path[2:], path[3:], strict=False):
        for step in range(steps + 1):
            t = step / steps
            x, y = (
                0.5
                * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
                for a, b, c, d in zip(before, start, stop, after, strict=True)
            )
            curve.append((x, y))
    return curve


def _ink(pen: ImageDraw.ImageDraw, curve: Stroke, width: float, hand: random.Random) -> None:
    """Draw discs along the curve; the pressure of the hand drifts slowly."""
    pressure = 1.0
    for start, stop in pairwise(curve):
        pressure = min(1.25, max(0.8, pressure + hand.gauss(0, 0.015)))
        radius = width * pressure / 2 * FINE
        gap = math.dist(start, stop) * SIDE
        dots = max(1, round(gap * 4))
        for dot in range(dots):
            x, y = ((a + (b - a) * dot / dots) * SIDE * FINE for a, b in zip(start, stop, strict=True))
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=25)


def drawings() -> dict[str, Image.Image]:
    """Return every drawing by its path under the folder, identical at every call."""
    found = {}
    for name, sign in (SIGNS | FOREIGN).items():
        hand = random.Random(f"hyperserve {name}")
        for number in range(1, SUPPORT + 1 if name in SIGNS else 1):
            found[f"support/{name}/{number}.png"] = draw(sign, hand)
        for number in range(1, QUERIES + 1):
            found[f"query/{name}-{number}.png"] = draw(sign, hand)
    return found


def main(folder: Path) -> None:
    """Write every drawing under `folder`."""
    for path, image in drawings().items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        image.save(file, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "glyphs")
