"""Prints text on a terminal. The text may come from any sender, and a terminal interprets some
characters. Every command prints through this module.

Control characters (C0, C1, escape sequences) and characters that change the direction of text are
shown as escapes; newlines and tabs are kept.
"""

import json
from enum import StrEnum
from unicodedata import category

import typer

DATA_CHARACTERS_MAX = 2_000
_LAYOUT = frozenset("\n\t")
_CONTROLS = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
"""Unicode categories of characters that a terminal interprets instead of displaying, or that cannot
be written.
"""


class ResultFormat(StrEnum):
    """Output format of results."""

    TABLE = "table"
    JSON = "json"


def escape_controls(text: str) -> str:
    """Return the text with every character escaped that a terminal would interpret."""
    if text.isprintable():
        return text
    return "".join(
        each if each in _LAYOUT or category(each) not in _CONTROLS else repr(each)[1:-1]
        for each in text
    )


def escape_json_controls(text: str) -> str:
    """Return JSON with JSON escapes for every character that a terminal would interpret: the same
    document.
    """
    if text.isprintable():
        return text
    return "".join(
        each if each in _LAYOUT or category(each) not in _CONTROLS else json.dumps(each)[1:-1]
        for each in text
    )


def echo(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Print text that may come from outside."""
    typer.echo(escape_controls(text), err=err, nl=nl)


def printable(text: str, characters_max: int) -> str:
    """Return the text on one line, with control characters escaped, truncated if it is longer."""
    cut = text[:characters_max]
    shown = "".join(each if each.isprintable() else repr(each)[1:-1] for each in cut)
    return shown + (f"… ({len(text)} characters)" if len(text) > characters_max else "")


def printable_data(data: bytes, media_type: str, characters_max: int = DATA_CHARACTERS_MAX) -> str:
    """Return the data of an event as text: JSON on one line, text unchanged, otherwise only the
    size.
    """
    try:
        if "json" in media_type:
            return printable(json.dumps(json.loads(data), ensure_ascii=False), characters_max)
        return printable(data.decode("utf-8"), characters_max)
    except (ValueError, RecursionError):
        return f"{len(data)} bytes of {printable(media_type, 100) or 'data'}"
