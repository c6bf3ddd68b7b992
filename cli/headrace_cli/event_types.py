"""`headrace types`: the registry of event types in both directions, who would receive a type and
what a Trigger or Subscription receives.

A type is described by its attributes `type` and perhaps `source`; the rest differs from event to
event. So an answer is yes, or maybe with the attributes on which it depends.

Who reads from a Broker or channel that does not exist is no receiver; standard error names it.

Exit codes: 0 success; 1 something is missing or the API refused; 2 invalid command line.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, NoReturn

import typer

from headrace.domain.filter_possibility import Possibility, Verdict
from headrace.resources import event_type as rules
from headrace.resources.resource import Resource, ResourceKind
from headrace_cli.client import SERVER, ApiClient, ApiFailure, Kind
from headrace_cli.event_registry import (
    KINDS,
    Place,
    ReadObject,
    Receiver,
    Registry,
    broker_of,
    channel_of,
    origin_of,
    place_of_subscription,
    place_of_trigger,
    what_passes,
)
from headrace_cli.resource_output import (
    OutputFormat,
    print_document,
    print_rows,
    refuse_object_outputs,
)
from headrace_cli.resources import (
    REFUSED,
    UNUSABLE,
    Authority,
    Namespace,
    Server,
    TokenFile,
    connect,
)
from headrace_cli.terminal import echo, printable

_CELL_MAX = 300
_DASH = "-"
_NAMED_MAX = 5
"""Readers of one missing object that a message names."""
Rows = list[dict[str, Any]]


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("types")(types)


def types(
    type_: Annotated[
        str | None,
        typer.Argument(metavar="[TYPE]", help="Show who would receive events of this type."),
    ] = None,
    *,
    source: Annotated[
        str | None, typer.Option("--source", help="With TYPE: the source of the events.")
    ] = None,
    trigger: Annotated[
        str | None, typer.Option("--trigger", help="Show which types this Trigger receives.")
    ] = None,
    subscription: Annotated[
        str | None,
        typer.Option("--subscription", help="Show which types this Subscription receives."),
    ] = None,
    namespace: Namespace = "default",
    output: Annotated[
        OutputFormat, typer.Option("--output", "-o", help="table, json or yaml.")
    ] = OutputFormat.TABLE,
    server: Server = SERVER,
    token_file: TokenFile = None,
    certificate_authority: Authority = None,
) -> None:
    """Show event types: all of them, who would receive one, or what a Trigger or Subscription
    receives.

    "Maybe" names the attributes on which it depends: a filter may ask for more than the type fixes.
    """
    if sum(each is not None for each in (type_, trigger, subscription)) > 1:
        _fail("give one of TYPE, --trigger and --subscription", UNUSABLE)
    if source is not None and type_ is None:
        _fail("--source needs a TYPE", UNUSABLE)
    refuse_object_outputs(output)
    client = connect(server, token_file, certificate_authority)
    try:
        registry = Registry(*(_listed(client, kind, namespace) for kind in KINDS))
        readers = Readers(_missing(client, registry.read_objects()))
    except ApiFailure as failure:
        _fail(str(failure), REFUSED)
    if type_ is not None:
        rows = _receivers(registry, readers, type_, source)
        nothing = f"nothing in namespace {namespace} receives {type_}"
    elif trigger is not None:
        rows = _received_by_trigger(registry, readers, namespace, trigger)
        nothing = (
            f"no EventType in namespace {namespace} passes Trigger {trigger}; it may receive events"
            f" of other types: `headrace types TYPE -n {namespace}` says who receives one"
        )
    elif subscription is not None:
        rows = _received_by_subscription(registry, readers, namespace, subscription)
        nothing = f"no EventType in namespace {namespace} is on the channel of {subscription}"
    else:
        rows = [_described(registry, readers, each) for each in registry.event_types]
        nothing = f"no EventTypes in namespace {namespace}"
    readers.report()
    _print(rows, output, nothing)


def _listed(client: ApiClient, kind: ResourceKind, namespace: str) -> list[Resource]:
    path = Kind(kind.api_version, kind.kind, kind.plural, True, frozenset()).path(namespace)
    items = client.call("GET", path)[1].get("items") or ()
    return [Resource(kind, each) for each in items]


def _missing(client: ApiClient, wanted: Iterable[ReadObject]) -> set[ReadObject]:
    """Return those that do not exist. Raises ApiFailure."""
    lists: defaultdict[tuple[str, str, str], set[ReadObject]] = defaultdict(set)
    for each in wanted:
        lists[each.group, each.kind, each.namespace].add(each)
    found: set[ReadObject] = set()
    for (group, kind, namespace), objects in lists.items():
        served = client.kind_in_group(group, kind)
        items = client.call("GET", served.path(namespace))[1].get("items") if served else ()
        names = {each["metadata"]["name"] for each in items or ()}
        found |= {each for each in objects if each.name not in names}
    return found


class Readers:
    """Separates receivers from those that read from an object that does not exist."""

    def __init__(self, missing: Collection[ReadObject]) -> None:
        self._missing = missing
        self._found: defaultdict[ReadObject, set[str]] = defaultdict(set)

    def receiving(self, candidates: Iterable[Receiver]) -> Iterator[Receiver]:
        """Yield the candidates that receive events; the others are in the report."""
        for each in candidates:
            if self.has(each.reads, str(each)):
                yield each

    def has(self, read: ReadObject, reader: str) -> bool:
        """Return whether what a Trigger or Subscription reads from exists; if not, the reader is in
        the report.
        """
        if read not in self._missing:
            return True
        self._found[read].add(reader)
        return False

    def report(self) -> None:
        """Print on standard error who receives nothing, and why: a line for each missing object."""
        for missing, readers in sorted(self._found.items()):
            names = sorted(readers)
            more = f", and {len(names) - _NAMED_MAX} more" if len(names) > _NAMED_MAX else ""
            _say(
                f"{missing} does not exist in namespace {missing.namespace}: no events for"
                f" {', '.join(names[:_NAMED_MAX])}{more}"
            )


def _receivers(registry: Registry, readers: Readers, type_: str, source: str | None) -> Rows:
    """Who would receive the type: where EventTypes say that it is, else everywhere."""
    described = [each for each in registry.event_types if rules.described(each, "type") == type_]
    asked = {"type": type_} | ({"source": source} if source is not None else {})
    known_at: dict[Place, dict[str, str]] = {}
    for each in described:
        place = registry.place_of(each)
        if place is not None:
            known = {**rules.known_attributes(each), **asked}
            # Two EventTypes of one place may have two sources: only what both fix is known.
            before = known_at.get(place, known)
            known_at[place] = {
                name: known[name] for name in known if before.get(name) == known[name]
            }
    if not known_at:
        _say(
            f"no EventType describes {type_}; this is what would happen at each Broker and channel"
        )
        known_at = dict.fromkeys(registry.places(), asked)
    return [
        {
            "on": str(place),
            "receiver": str(each),
            **_match(each.found),
        }
        for place, known in sorted(known_at.items())
        for each in readers.receiving(registry.receivers(place, known))
    ]


def _received_by_trigger(registry: Registry, readers: Readers, namespace: str, name: str) -> Rows:
    trigger = _one(registry.triggers, "Trigger", namespace, name)
    if not readers.has(broker_of(trigger), f"Trigger {name}"):
        return []
    rows = []
    for each in registry.types_at(place_of_trigger(trigger)):
        found = what_passes(trigger, rules.known_attributes(each))
        if found.verdict is not Verdict.NO:
            rows.append({**_type(each), **_match(found)})
    return rows


def _received_by_subscription(
    registry: Registry, readers: Readers, namespace: str, name: str
) -> Rows:
    subscription = _one(registry.subscriptions, "Subscription", namespace, name)
    if not readers.has(channel_of(subscription), f"Subscription {name}"):
        return []
    found = Possibility(Verdict.YES)
    at = registry.types_at(place_of_subscription(subscription))
    return [{**_type(each), **_match(found)} for each in at]


def _one(resources: Sequence[Resource], kind: str, namespace: str, name: str) -> Resource:
    found = next((each for each in resources if each.name == name), None)
    if found is None:
        _fail(f"there is no {kind} {name} in namespace {namespace}", REFUSED)
    return found


def _described(registry: Registry, readers: Readers, event_type: Resource) -> dict[str, Any]:
    place = registry.place_of(event_type)
    known = rules.known_attributes(event_type)
    receivers = [] if place is None else readers.receiving(registry.receivers(place, known))
    return {
        **_type(event_type),
        "on": "" if place is None else str(place),
        "schema": rules.schema_place(event_type),
        "validation": str(event_type.status.get("validation") or ""),
        "origin": origin_of(event_type),
        "receivers": [{"receiver": str(each), **_match(each.found)} for each in receivers],
    }


def _type(event_type: Resource) -> dict[str, Any]:
    return {
        "type": rules.described(event_type, "type"),
        "source": rules.described(event_type, "source"),
        "eventType": event_type.name,
    }


def _match(found: Possibility) -> dict[str, Any]:
    return {"match": str(found.verdict), "dependsOn": list(found.depends_on)}


def _print(rows: Rows, output: OutputFormat, nothing: str) -> None:
    if output is not OutputFormat.TABLE:
        print_document({"items": rows}, output)
        return
    if not rows:
        _say(nothing)
        return
    print_rows(
        list(map(_title, rows[0])),
        [[printable(_cell(each), _CELL_MAX) for each in row.values()] for row in rows],
    )


def _title(name: str) -> str:
    return "".join(f" {each}" if each.isupper() else each for each in name).upper()


def _cell(value: Any) -> str:
    if not isinstance(value, list):
        return str(value) or _DASH
    return ", ".join(map(_item, value)) or _DASH


def _item(value: Any) -> str:
    if not isinstance(value, Mapping):
        return str(value)
    if value["match"] == Verdict.YES:
        return str(value["receiver"])
    return f"{value['receiver']} (maybe: {', '.join(value['dependsOn'])})"


def _say(message: str) -> None:
    echo(f"headrace: {message}", err=True)


def _fail(message: str, code: int) -> NoReturn:
    _say(message)
    raise typer.Exit(code)
