"""Draw examples/clouds.csv: vectors of 4 numbers in 24 classes, each a Gaussian cloud around a centre of its own.

python examples/draw_clouds.py
"""

import csv
import random
from pathlib import Path

CLASSES, EXAMPLES, DIM = 24, 12, 4


def rows() -> list[list[str | float]]:
    """Return the header and the examples, identical at every call."""
    chance = random.Random(0)
    drawn: list[list[str | float]] = [["label", *(f"x{axis}" for axis in range(1, DIM + 1))]]
    for label in range(1, CLASSES + 1):
        centre = [chance.gauss(0, 2) for _ in range(DIM)]
        drawn += [
            [f"cloud {label}", *(round(chance.gauss(mean, 0.7), 2) for mean in centre)]
            for _ in range(EXAMPLES)
        ]
    return drawn


if __name__ == "__main__":
    with Path(__file__).with_name("clouds.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows())
