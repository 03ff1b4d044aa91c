"""New support sets from old ones: examples added, relabelled, taken out. Nothing is read or written here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from app.http.problems import fail
from app.ids import new_id
from app.tasks.history import Base, Held
from app.tasks.prepare import Addition
from app.tasks.support import Aim
from hyperserve.types import Notice


@dataclass(frozen=True)
class Draft:
    """A support set in the making: first examples of the base, then those that the base does not have."""

    examples: tuple[Held, ...]
    sources: tuple[int, ...]
    """Which example of the base each of the first ones is, whatever its label."""
    added: tuple[Held, ...] = ()
    """Those of `examples` whose rows are new."""
    dropped: str | None = None
    """Id of the one that the base has and the draft does not."""
    x: npt.NDArray[np.float32] | None = None
    """Decoded, those that the base does not have: [n, *input]."""
    blobs: Mapping[str, bytes] = field(default_factory=dict)
    """Bytes that may have to be written."""
    warnings: tuple[Notice, ...] = ()
    where: str | None = None
    """Pointer to what the request says of it."""

    def grows(self, base: Base) -> bool:
        """Whether it is the base and more examples of the same classes behind it."""
        more = len(self.examples) - len(base.examples)
        same = len(self.counted(base)) == max(1, len(base.version.classes))
        return more > 0 and self.dropped is None and same and self.examples[:-more] == base.examples

    def counted(self, base: Base) -> dict[str, int]:
        """Examples of each class: those of the base in their order, then new ones. Of values those of ""."""
        shots = dict.fromkeys(base.version.classes, 0)
        for held in self.examples:
            shots[held.label] = shots.get(held.label, 0) + 1
        return {label: count for label, count in shots.items() if count}


Edit = Callable[[Base], Draft]
"""Run again where another version became current meanwhile."""


def extended(base: Base, addition: Addition) -> Draft:
    start = base.examples[-1].position + 1
    kind = base.examples[0].kind
    pairs = enumerate(zip(addition.sent.aims, addition.blobs, strict=True))
    added = tuple(
        Held(start + i, new_id("ex"), label, kind, name, target=target)
        for i, ((label, target), (name, _)) in pairs
    )
    known = {held.blob: held.aim for held in reversed(base.examples)}
    return Draft(
        examples=base.examples + added,
        sources=tuple(range(len(base.examples))),
        added=added,
        x=addition.decoded.x,
        blobs=dict(addition.blobs),
        warnings=tuple(addition.warnings(known)),
        where="/support",
    )


def redirected(base: Base, example: str, aim: Aim, *, anew: bool = False) -> Draft:
    """The same input as another example; where it has the label or target already, only if wanted `anew`.

    Raises `ProblemError` 404.
    """
    place = _place(base, example)
    label, target = aim
    if base.examples[place].aim == aim and not anew:
        return Draft(base.examples, tuple(range(len(base.examples))))
    held = replace(base.examples[place], id=new_id("ex"), label=label, target=target)
    return Draft(
        examples=(*base.examples[:place], held, *base.examples[place + 1 :]),
        sources=tuple(range(len(base.examples))),
        added=(held,),
        dropped=example,
        where="/label" if target is None else "/target",
    )


def without(base: Base, example: str) -> Draft:
    """Raises `ProblemError` 404."""
    place = _place(base, example)
    kept = [index for index in range(len(base.examples)) if index != place]
    return Draft(tuple(base.examples[index] for index in kept), tuple(kept), dropped=example)


def _place(base: Base, example: str) -> int:
    for place, held in enumerate(base.examples):
        if held.id == example:
            return place
    raise fail("example_not_found", "The current version holds no such example.")
