"""Cells of a data set that nobody here has seen: as many ways and shots as its classes allow."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from models.evaluation.episodic import Cell, Draw, Features, draw

WAY, MIDDLE_WAY, MOST_WAYS = 5, 20, 150
SHOTS = (1, 5, 10)
QUERIES = 15
_LEAST_FOR_MIDDLE_WAY = 40
_LEAST_QUERIES = 5
"""Queries of a class below which it is left out, unless most classes are as small."""
_MOST_QUERIES_OF_TASK = 1000
_LEAST_TASKS = 10
_FOREIGN_SHARE = 1 / 3


@dataclass(frozen=True)
class OwnCell:
    """One cell: its tasks are drawn from `classes`, those that are large enough."""

    cell: Cell
    tasks: int
    classes: tuple[int, ...]

    def features(self, whole: Features) -> Features:
        """Return the features with the members of this cell's classes alone."""
        members = [whole.members[one] for one in self.classes]
        return replace(whole, members=members, domains=whole.domains[list(self.classes)])


def own_cells(counts: npt.NDArray[np.int64], tasks: int) -> tuple[list[OwnCell], list[str]]:
    """Return the cells of a data set whose classes have `counts` examples, and notes about what is smaller than asked.

    Ways are 5, 20 from 40 classes on, and all up to 150; shots 1, 5 and 10. More ways have fewer tasks and queries.
    """
    found: list[OwnCell] = []
    notes: list[str] = []
    for shot in SHOTS:
        name = "1 shot" if shot == 1 else f"{shot} shots"
        least = max(1, min(_LEAST_QUERIES, int(np.median(counts)) - shot))
        classes = np.flatnonzero(counts >= shot + least)
        if len(classes) < 2:
            notes.append(f"{name}: fewer than 2 classes have {shot + 1} examples, left out")
            continue
        if (small := len(counts) - len(classes)) > 0:
            notes.append(f"{name}: {small} of {len(counts)} classes with too few examples are left out")
        room = int(counts[classes].min()) - shot
        if room < QUERIES:
            notes.append(f"{name}: {room} instead of {QUERIES} queries a class, as the smallest class allows")
        for way in _ways(len(classes)):
            queries = min(QUERIES, room, max(1, _MOST_QUERIES_OF_TASK // way))
            count = min(tasks, max(_LEAST_TASKS, WAY * tasks // max(way, WAY)))
            found.append(OwnCell(Cell(way, shot, queries), count, tuple(classes.tolist())))
    return found, notes


def _ways(classes: int) -> list[int]:
    ways = {min(WAY, classes), min(MOST_WAYS, classes)}
    return sorted(ways | ({MIDDLE_WAY} if classes >= _LEAST_FOR_MIDDLE_WAY else set()))


def foreign_draws(own: OwnCell, features: Features, seed: int) -> tuple[Cell, list[Draw]] | None:
    """Draw tasks in which a third of the classes, others in each task, are foreign: half of the queries are of them.

    `features` are those of the cell. The way is at most two thirds of the classes. None with fewer than 3 classes.
    """
    classes = len(features.members)
    if classes < 3:
        return None
    foreign = round(_FOREIGN_SHARE * classes)
    way = min(own.cell.way, classes - foreign)
    known = replace(own.cell, way=way)
    rng = np.random.default_rng((seed, way, own.cell.shot, 3))
    drawn = []
    for _ in range(own.tasks):
        order = rng.permutation(classes)
        pool = replace(
            features,
            members=[features.members[one] for one in order[foreign:]],
            domains=features.domains[order[foreign:]],
        )
        picked, support, query = draw(rng, pool, known)
        strangers = [
            rng.choice(features.members[one], 1) for one in rng.choice(order[:foreign], way * known.queries)
        ]
        drawn.append((order[foreign:][picked], support, np.concatenate((query, *strangers))))
    return replace(known, foreign=way * known.queries), drawn
