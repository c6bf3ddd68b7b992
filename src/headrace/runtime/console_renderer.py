"""Log lines for people at a terminal: one line each, the time, how bad it is, what happened and its
values, the next step last.

What stands in a line may come from outside. A terminal obeys some characters, so whatever is not
printable is shown escaped.
"""

import io
import os
from collections.abc import Mapping, MutableMapping
from typing import Any, TextIO

import structlog

EVENT_CHARACTERS = 24
_LAST = "next_step"
_LEFT_OUT = frozenset({"logger"})
"""Says which module wrote the line, which is for programs."""
_PLAIN = (bool, int, float, type(None))


def console_processors(
    stream: TextIO, environment: Mapping[str, str] = os.environ
) -> list[structlog.typing.Processor]:
    """Render lines for `stream`, in colours where it is a terminal that has them and `NO_COLOR` is
    not set (https://no-color.org).
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
    return [structlog.stdlib.ProcessorFormatter.remove_processors_meta, _visible, renderer]


def visible(text: str) -> str:
    """The text with everything that is not printable escaped: on one line, and nothing that a
    terminal would obey.
    """
    return (
        text
        if text.isprintable()
        else "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)
    )


def _visible(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    shown: dict[str, Any] = {}
    for name, value in event.items():
        if name in {"exc_info", "stack"}:
            shown[name] = _lines(value) if isinstance(value, str) else value
        elif name not in _LEFT_OUT and name != _LAST:
            shown[visible(name)] = value if isinstance(value, _PLAIN) else visible(str(value))
    if _LAST in event:
        shown[_LAST] = visible(str(event[_LAST]))
    return shown


def _traceback(stream: TextIO, exc_info: structlog.typing.ExcInfo) -> None:
    """A traceback without local variables; the message of the error may come from outside."""
    plain = io.StringIO()
    structlog.dev.plain_traceback(plain, exc_info)
    stream.write(_lines(plain.getvalue()))


def _lines(text: str) -> str:
    return "\n".join(visible(line) for line in text.split("\n"))
