"""Output in the encoding of the console: a character that it lacks is replaced, and no command fails for it."""

from __future__ import annotations

import codecs
import io
import sys
import unicodedata

_HANDLER = "hyperserve.similar"
_SIMILAR = str.maketrans(
    {
        **dict.fromkeys("‐‑‒–—−", "-"),
        **dict.fromkeys("‘’‚′", "'"),
        **dict.fromkeys("“”„″«»", '"'),
        **dict.fromkeys("•·∙●", "*"),
        **dict.fromkeys("→›", ">"),
        **dict.fromkeys("←‹", "<"),
        **dict.fromkeys("─━═╌╸╺", "-"),
        **dict.fromkeys("│┃║╎", "|"),
        **dict.fromkeys("┌┐└┘├┤┬┴┼┏┓┗┛┡┩┳┻╇╭╮╰╯", "+"),
        "…": "~",
        "×": "x",
        "\u00a0": " ",
    }
)
"""Replacements of one character, so that columns stay aligned."""


def replace_unknown_characters() -> None:
    """Let standard output replace what its encoding lacks; standard error escapes it anyway."""
    codecs.register_error(_HANDLER, _similar)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors=_HANDLER)


def is_unicode(stream: object) -> bool:
    """Return True if a stream takes every character."""
    encoding = getattr(stream, "encoding", None) or "ascii"
    return codecs.lookup(encoding).name.startswith("utf")


def _similar(error: UnicodeError) -> tuple[str, int]:
    """Return ASCII of the same width for the characters that could not be encoded, `?` if none is similar."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_replacement, error.object[error.start : error.end])), error.end


def _replacement(character: str) -> str:
    similar = character.translate(_SIMILAR)
    if similar.isascii():
        return similar
    if unicodedata.combining(character):
        return ""
    return "??" if unicodedata.east_asian_width(character) in "WF" else "?"
