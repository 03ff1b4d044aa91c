"""What is allowed in a support set but worth knowing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from app.http.problems import pointer
from app.payloads.inputs import Decoded
from app.payloads.support import Aim, SentSupport, Target
from hyperserve.types import Notice
from models.inputs import is_blank

NOTICES_MAX = 20


def notices(
    sent: SentSupport, decoded: Decoded, digests: Sequence[str], known: Mapping[str, Aim] | None = None
) -> list[Notice]:
    """The first few of: blank examples, examples that stand twice. `known` are those that are there, by digest.

    In a regression task zero is a number like any other, and one input may well have two targets.
    """
    found: list[Notice] = []
    first = {_sameness(name, aim): aim for name, aim in (known or {}).items()}
    for example, aim, name, x in zip(sent.examples, sent.aims, digests, decoded.x, strict=True):
        where, key = pointer(example.location), _sameness(name, aim)
        if aim[1] is None and is_blank(x):
            found.append(Notice(code="blank_example", detail="The example is blank.", pointer=where))
        if key in first:
            twin = " of another class" if first[key] != aim else " of the same class"
            detail = f"The example is identical to an earlier one{twin if aim[1] is None else ''}."
            found.append(Notice(code="identical_examples", detail=detail, pointer=where))
        first.setdefault(key, aim)
        if len(found) >= NOTICES_MAX:
            break
    return found[:NOTICES_MAX]


def _sameness(name: str, aim: Aim) -> tuple[str, Target | None]:
    """Examples of which this is equal are the same: by the input, and by the target if there is one."""
    return name, aim[1]
