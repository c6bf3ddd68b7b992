"""How resources look on a terminal and in a pipe: tables in Knative's column order, JSON, YAML, names, and a description in full."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import typer
import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from headrace.domain.resources import Column, Resource, ResourceKind, value_at

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))
_COLOURS = {"True": "green", "False": "red", "Unknown": "yellow"}
_PIPE_WIDTH = 1_000


class Output(StrEnum):
    """How to show resources."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


def print_resources(resources: Sequence[Resource], kind: ResourceKind, output: Output, *, with_namespace: bool, one: bool) -> None:
    """Print them to standard output; `one` shows a single resource as itself, not as a list."""
    match output:
        case Output.NAME:
            for each in resources:
                typer.echo(f"{kind.qualified}/{each.name}")
        case Output.JSON:
            typer.echo(json.dumps(_document(resources, kind, one=one), indent=2, ensure_ascii=False))
        case Output.YAML:
            typer.echo(yaml.safe_dump(_document(resources, kind, one=one), sort_keys=False, allow_unicode=True), nl=False)
        case Output.TABLE | Output.WIDE:
            console_for_output().print(_table(resources, kind, wide=output is Output.WIDE, with_namespace=with_namespace))


def console_for_output() -> Console:
    """Standard output: as wide as the terminal. A pipe has no width to fit into, and folding there would split what a script looks for."""
    console = Console()
    return console if console.is_terminal else Console(width=_PIPE_WIDTH)


def _document(resources: Sequence[Resource], kind: ResourceKind, *, one: bool) -> Mapping[str, Any]:
    if one:
        return resources[0].object
    return {"apiVersion": kind.api_version, "kind": f"{kind.kind}List", "metadata": {}, "items": [dict(each.object) for each in resources]}


def _table(resources: Sequence[Resource], kind: ResourceKind, *, wide: bool, with_namespace: bool) -> Table:
    columns = [column for column in kind.columns if wide or not column.priority]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in (("NAMESPACE",) if with_namespace else ()) + ("NAME", *(column.name.upper() for column in columns)):
        table.add_column(title, overflow="fold")
    now = datetime.now(UTC)
    for each in resources:
        cells = [_cell(column, each, now) for column in columns]
        table.add_row(*((escape(each.namespace),) if with_namespace else ()), escape(each.name), *cells)
    return table


def _cell(column: Column, resource: Resource, now: datetime) -> str:
    value = value_at(resource.object, column.path)
    if value is None:
        return ""
    if column.path[-1] == "creationTimestamp":
        return age(str(value), now)
    text = escape(str(value))
    colour = _COLOURS.get(text) if column.path[-1] == "status" else None
    return f"[{colour}]{text}[/{colour}]" if colour else text


def age(timestamp: str, now: datetime) -> str:
    """How long ago, in the two largest units as kubectl writes them: `5m`, `2h10m`, `3d`."""
    try:
        seconds = max(0, int((now - datetime.fromisoformat(timestamp)).total_seconds()))
    except (ValueError, TypeError):
        return "<unknown>"
    for size, unit in _UNITS:
        if seconds >= 2 * size or size == 1:
            return f"{seconds // size}{unit}"
    return "0s"


def describe_resource(resource: Resource, console: Console) -> None:
    """Print one resource in full: what was asked for, what came of it, and every condition with its reason."""
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(style="bold")
    facts.add_column(overflow="fold")
    facts.add_row("Name:", escape(resource.name))
    facts.add_row("Namespace:", escape(resource.namespace))
    facts.add_row("Kind:", f"{resource.kind.kind} ({resource.kind.api_version})")
    facts.add_row("Age:", age(str(resource.metadata.get("creationTimestamp", "")), datetime.now(UTC)))
    if resource.deleting:
        facts.add_row("Deletion:", "asked for; topics and consumers are being cleaned up")
    for title in ("labels", "annotations"):
        entries = resource.metadata.get(title) or {}
        facts.add_row(f"{title.capitalize()}:", escape("\n".join(f"{key}={value}" for key, value in entries.items())) or "none")
    console.print(facts)
    for title, value in (("Spec", resource.spec or resource.object.get("data")), ("Status", _plain_status(resource))):
        if value:
            console.print(f"\n[bold]{title}:[/bold]")
            console.print(_indented(value), markup=False, highlight=False)
    _print_conditions(resource, console)


def _plain_status(resource: Resource) -> Mapping[str, Any]:
    return {key: value for key, value in resource.status.items() if key not in ("conditions", "observedGeneration")}


def _indented(value: Any) -> str:
    text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True).rstrip()
    return "\n".join(f"  {line}" for line in text.splitlines())


def _print_conditions(resource: Resource, console: Console) -> None:
    conditions = resource.status.get("conditions")
    if not isinstance(conditions, list) or not conditions:
        if resource.kind.has_status:
            console.print("\nNo conditions yet: no controller has looked at it. `headrace get` again in a moment.")
        return
    table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left")
    for title in ("CONDITION", "STATUS", "AGE", "REASON", "MESSAGE"):
        table.add_column(title, overflow="fold")
    now = datetime.now(UTC)
    for each in (entry for entry in conditions if isinstance(entry, dict)):
        status = str(each.get("status", ""))
        colour = _COLOURS.get(status, "default")
        cells = [str(each.get(name, "")) for name in ("reason", "message")]
        moved = age(str(each.get("lastTransitionTime", "")), now)
        table.add_row(escape(str(each.get("type", ""))), f"[{colour}]{escape(status)}[/{colour}]", moved, *(escape(cell) for cell in cells))
    console.print()
    console.print(table)
