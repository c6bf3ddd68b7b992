"""Prints objects on a terminal or a pipe: the server's tables, JSON, YAML, or names.

Every installation can import it: what only the extra `cli` has is imported where it is used.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from headrace_cli.terminal import echo, escape_controls, escape_json_controls, printable

if TYPE_CHECKING:
    from headrace_cli.client import Kind

_COLOURS = {"True": "green", "False": "red", "Unknown": "yellow"}
_PIPE_WIDTH = 1_000
_CELL_MAX = 10_000


class OutputFormat(StrEnum):
    """Output format of objects."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


def refuse_object_outputs(output: OutputFormat) -> None:
    """End with exit code 2 unless it is a format for a list of values that are no objects."""
    if output not in (OutputFormat.TABLE, OutputFormat.JSON, OutputFormat.YAML):
        echo(f"headrace: -o {output}: expected table, json or yaml", err=True)
        raise typer.Exit(2)


def print_document(document: Mapping[str, Any], output: OutputFormat) -> None:
    """Print an object or a list as JSON or YAML."""
    if output is OutputFormat.JSON:
        echo(escape_json_controls(json.dumps(document, indent=2, ensure_ascii=False)))
    else:
        import yaml  # Not in the images of all services, whose settings can be printed there.

        text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
        if escape_controls(text) != text:
            # The same document, with an escape for every non-ASCII character.
            text = yaml.safe_dump(document, sort_keys=False, allow_unicode=False)
        echo(text, nl=False)


def print_table(
    table: Mapping[str, Any],
    kind: "Kind",
    output: OutputFormat,
    *,
    with_namespace: bool,
    with_kind: bool = False,
) -> None:
    """Print a Table from the server; `output` is TABLE, WIDE or NAME. With `with_kind` the first
    column, the name, starts with the kind.
    """
    rows = table.get("rows") or ()
    if output is OutputFormat.NAME:
        for row in rows:
            echo(f"{kind.qualified}/{_metadata(row).get('name', '')}")
        return
    columns = [
        (number, column)
        for number, column in enumerate(table["columnDefinitions"])
        if output is OutputFormat.WIDE or not column["priority"]
    ]
    titles = [
        *(("NAMESPACE",) if with_namespace else ()),
        *(column["name"].upper() for _, column in columns),
    ]
    print_rows(
        titles,
        [
            [
                *((_metadata(row).get("namespace", ""),) if with_namespace else ()),
                *(
                    f"{kind.qualified}/{row['cells'][number]}"
                    if with_kind and number == 0
                    else row["cells"][number]
                    for number, _ in columns
                ),
            ]
            for row in rows
        ],
    )


def print_rows(titles: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table; the cells may come from outside."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        shown.add_column(escape(_one_line(title)), overflow="fold")
    for row in rows:
        shown.add_row(*map(_cell, row))
    console = Console()
    # A pipe has no width limit, and folded lines would split text that a script searches for.
    (console if console.is_terminal else Console(width=_PIPE_WIDTH)).print(shown)


def _one_line(value: Any) -> str:
    return printable(str(value), _CELL_MAX)


def _metadata(row: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = (row.get("object") or {}).get("metadata") or {}
    return found


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = escape(_one_line(value))
    colour = _COLOURS.get(text)
    return f"[{colour}]{text}[/{colour}]" if colour else text
