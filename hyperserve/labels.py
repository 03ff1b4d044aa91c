"""Rules of class labels, shared by server and client: a label is the same whatever it travels in."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from numbers import Integral

MAX_CHARACTERS = 200


@dataclass(frozen=True)
class LabelFault:
    """The reason why a text is no label."""

    detail: str
    limit: int | None = None


def normal(text: str) -> str:
    """Return a label in NFC, the form in which labels are compared, stored and answered."""
    # A text far too long is not normalised first: it is refused anyway.
    return text if len(text) > 4 * MAX_CHARACTERS else unicodedata.normalize("NFC", text)


def fault(label: str, what: str = "The label") -> LabelFault | None:
    """Return the reason why a text in NFC is no label, or None. The detail begins with `what`."""
    if not label:
        return LabelFault(f"{what} is empty.", 1)
    if len(label) > MAX_CHARACTERS:
        return LabelFault(f"{what} has more than {MAX_CHARACTERS} characters.", MAX_CHARACTERS)
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in label):
        return LabelFault(f"{what} contains a control character, such as a line break or a tab.")
    return None


def from_number(value: object) -> str | None:
    """Return the decimal text of a whole number, which is its label; None for anything else, booleans included."""
    return str(int(value)) if isinstance(value, Integral) and not isinstance(value, bool) else None
