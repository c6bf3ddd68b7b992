"""Output of `headrace dead-letters`: tables for people, one JSON object per line for programs."""

import json
from collections.abc import Mapping, Sequence

from headrace_cli.dead_letter_view import DeadLetterView
from headrace_cli.terminal import ResultFormat, echo, printable, printable_data

_WIDE = 10_000


_COLUMNS = {
    "TIME": "time",
    "ID": "id",
    "TYPE": "type",
    "REASON": "reason",
    "CODE": "code",
    "ATTEMPTS": "attempts",
    "DESTINATION": "destination",
    "SINK": "sink",
}
_WIDTH_MAX = {"ID": 40, "TYPE": 40, "REASON": 60, "SINK": 60}


def print_topics(sizes: Mapping[str, int], output: ResultFormat) -> None:
    """Print the dead letter topics that are not empty."""
    filled = {topic: count for topic, count in sizes.items() if count}
    if output is ResultFormat.JSON:
        for topic, count in filled.items():
            echo(json.dumps({"topic": topic, "events": count}))
        return
    if not filled:
        echo(f"no dead letters; {len(sizes)} topics would hold them", err=True)
        return
    _print_table(["EVENTS", "TOPIC"], [[str(count), topic] for topic, count in filled.items()])
    echo("headrace dead-letters --topic TOPIC shows the events and the reasons", err=True)


def print_dead_letters(views: Sequence[DeadLetterView], output: ResultFormat) -> None:
    """Print one line for each dead letter."""
    rows = [view.row() for view in views]
    if output is ResultFormat.JSON:
        for row in rows:
            echo(json.dumps(row))
    elif rows:
        columns = [
            name
            for name, key in _COLUMNS.items()
            if name != "SINK" or any(row[key] for row in rows)
        ]
        cells = [
            ["" if row[_COLUMNS[name]] is None else str(row[_COLUMNS[name]]) for name in columns]
            for row in rows
        ]
        _print_table(
            columns,
            [
                [
                    _cut(text, _WIDTH_MAX.get(column, _WIDE))
                    for column, text in zip(columns, line, strict=True)
                ]
                for line in cells
            ],
        )


def print_dead_letter(view: DeadLetterView, output: ResultFormat) -> None:
    """Print all fields of one dead letter."""
    if output is ResultFormat.JSON:
        echo(json.dumps(view.whole()))
        return
    row = view.row()
    for title, text in (
        ("Dead since", row["time"]),
        ("Reason", row["reason"]),
        ("Destination", row["destination"]),
        ("Status code", row["code"]),
        ("Attempts", row["attempts"]),
        ("Rejected by the sink", row["sink"]),
        ("Stands at", row["place"]),
    ):
        if text not in ("", None):
            echo(f"{title + ': ':<14}{printable(str(text), _WIDE)}")
    _print_fields("Attributes", view.attributes)
    _print_fields("Noted by the dispatcher", view.private)
    if answer := view.answer():
        echo(
            f"Answer of the subscriber (its first {len(answer)} bytes):\n "
            f" {printable_data(answer, '')}"
        )
    media_type = view.attributes.get("datacontenttype", "")
    echo(
        f"Data ({view.size} bytes):"
        + (f"\n  {printable_data(view.data, media_type, _WIDE)}" if view.data else "")
    )


def _print_fields(title: str, fields: Mapping[str, str]) -> None:
    if fields:
        echo(f"{title}:")
        for name, value in sorted(fields.items()):
            echo(f"  {printable(name, 60)}: {printable(value, _WIDE)}")


def _cut(text: str, characters_max: int) -> str:
    shown = printable(text, _WIDE)
    return shown if len(shown) <= characters_max else f"{shown[: characters_max - 1]}…"


def _print_table(heading: list[str], lines: list[list[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(heading, *lines, strict=True)]
    for line in (heading, *lines):
        echo(
            "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()
        )
