"""Draw the digits with which docs/streams.md queries the stream `digits`: pen strokes, no font, no dataset.

python examples/draw_digits.py
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw

SIDE, PEN, FINE = 96, 9, 4
"""Digits are drawn `FINE` times larger and averaged down, for smooth edges."""
FOLDER = Path(__file__).parent / "digits"
Stroke = list[tuple[float, float]]

DIGITS: dict[str, list[Stroke]] = {
    "one": [[(52, 14), (50, 40), (47, 82)]],
    "four": [[(34, 14), (28, 50), (66, 50)], [(60, 16), (56, 84)]],
    "seven": [[(24, 20), (66, 18), (52, 50), (42, 84)]],
}


def drawn(strokes: list[Stroke]) -> Image.Image:
    """Return the strokes as dark ink on paper, with round ends."""
    image = Image.new("L", (FINE * SIDE, FINE * SIDE), 247)
    pen, radius = ImageDraw.Draw(image), FINE * PEN / 2
    for stroke in strokes:
        points = [(FINE * x, FINE * y) for x, y in stroke]
        pen.line(points, fill=25, width=FINE * PEN, joint="curve")
        for x, y in points:
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=25)
    return image.reduce(FINE)


def main() -> None:
    """Write every digit into FOLDER."""
    FOLDER.mkdir(exist_ok=True)
    for name, strokes in DIGITS.items():
        drawn(strokes).save(FOLDER / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
