"""Text on a terminal: it may come from any sender, and a terminal interprets some characters. Every
command prints through here.

Control characters (C0, C1, escape sequences) and those that change the direction of text are shown
as escapes; new lines and tabs stay.
"""

import json
from enum import StrEnum
from unicodedata import category

import typer

DATA_CHARACTERS_MAX = 2_000
_LAYOUT = frozenset("\n\t")
_CONTROLS = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
"""Categories of characters that are not drawn but followed, or that cannot be written."""


class ResultFormat(StrEnum):
    """How results are written."""

    TABLE = "table"
    JSON = "json"


def escape_controls(text: str) -> str:
    """The text with all that a terminal would obey made visible."""
    if text.isprintable():
        return text
    return "".join(
        each if each in _LAYOUT or category(each) not in _CONTROLS else repr(each)[1:-1]
        for each in text
    )


def escape_json_controls(text: str) -> str:
    """JSON with all that a terminal would obey written as JSON's escapes: the same document."""
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
    """The text on one line, with control characters made visible, cut where it is longer."""
    cut = text[:characters_max]
    shown = "".join(each if each.isprintable() else repr(each)[1:-1] for each in cut)
    return shown + (f"… ({len(text)} characters)" if len(text) > characters_max else "")


def printable_data(data: bytes, media_type: str, characters_max: int = DATA_CHARACTERS_MAX) -> str:
    """The data of an event: JSON on one line, text as it is, of anything else the size."""
    try:
        if "json" in media_type:
            return printable(json.dumps(json.loads(data), ensure_ascii=False), characters_max)
        return printable(data.decode("utf-8"), characters_max)
    except (ValueError, RecursionError):
        return f"{len(data)} bytes of {printable(media_type, 100) or 'data'}"
