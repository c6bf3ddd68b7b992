"""Renders log lines for people: one line each, with the time, the level, the event name, its
fields, and the next step last as plain text.

Parts of a line may come from outside. A terminal interprets control characters, so every character
that is not printable is escaped.
"""

import io
import os
from collections.abc import Mapping, MutableMapping
from typing import Any, TextIO

import structlog

EVENT_CHARACTERS = 24
_NEXT_STEP = "next_step"
_OMITTED = frozenset({"logger"})
"""The module name: useful to programs only."""
_PLAIN = (bool, int, float, type(None))


def console_processors(
    stream: TextIO, environment: Mapping[str, str] = os.environ
) -> list[structlog.typing.Processor]:
    """Return the processors that render lines for `stream`. They use colors if it is a terminal
    that supports them and `NO_COLOR` is not set (https://no-color.org).
    """
    colors = (
        stream.isatty() and not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"
    )
    renderer = structlog.dev.ConsoleRenderer(
        colors=colors,
        pad_event_to=EVENT_CHARACTERS,
        sort_keys=False,
        exception_formatter=_traceback,
    )
    return [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        _visible,
        _NextStepLast(renderer),
    ]


class _NextStepLast:
    """Renders the next step at the end of the line, without quotes, because it is a sentence."""

    def __init__(self, renderer: structlog.dev.ConsoleRenderer) -> None:
        self._renderer = renderer

    def __call__(self, logger: Any, name: str, event: MutableMapping[str, Any]) -> str:
        next_step = event.pop(_NEXT_STEP, None)
        line = self._renderer(logger, name, event)
        if next_step is None:
            return line
        # A traceback follows on separate lines.
        first, newline, rest = line.partition("\n")
        return f"{first.rstrip()}  {_NEXT_STEP}: {next_step}{newline}{rest}"


def visible(text: str) -> str:
    """Return the text on one line, with every character that is not printable escaped."""
    return (
        text
        if text.isprintable()
        else "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)
    )


def _visible(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    shown: dict[str, Any] = {}
    for name, value in event.items():
        if name == "stack" and isinstance(value, list):
            # The renderer takes only text; a list has one entry for each frame or line.
            shown[name] = _lines("\n".join(map(str, value)))
        elif name in {"exc_info", "stack"}:
            shown[name] = _lines(value) if isinstance(value, str) else value
        elif name not in _OMITTED:
            shown[visible(name)] = value if isinstance(value, _PLAIN) else visible(str(value))
    return shown


def _traceback(stream: TextIO, exc_info: structlog.typing.ExcInfo) -> None:
    """Write a traceback without local variables. The error message may come from outside."""
    plain = io.StringIO()
    structlog.dev.plain_traceback(plain, exc_info)
    stream.write(_lines(plain.getvalue()))


def _lines(text: str) -> str:
    return "\n".join(visible(line) for line in text.split("\n"))
