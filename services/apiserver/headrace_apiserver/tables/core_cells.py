"""The columns of core kinds that no path into the object can express: counts, ports, the object
that an event is about.

CRDs define their own columns; these are the ones that `kubectl get` shows for kinds that Kubernetes
itself defines.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from headrace_apiserver.tables.ages import UNKNOWN, age, read_time

Document = Mapping[str, Any]


class CoreColumn(NamedTuple):
    """A column, and the function that computes its cell from an object."""

    name: str
    type: str
    cell: Callable[[Document, datetime], Any]
    priority: int = 0
    format: str = ""
    description: str = ""


def _name(document: Document, _: datetime) -> Any:
    return document["metadata"].get("name", "")


def created_age(document: Document, now: datetime) -> str:
    """The age of the object."""
    return age(document["metadata"].get("creationTimestamp"), now)


def _count(*fields: str) -> Callable[[Document, datetime], int]:
    return lambda document, _: sum(len(document.get(field) or ()) for field in fields)


def _at(*path: str) -> Callable[[Document, datetime], str]:
    def found(document: Document, _: datetime) -> str:
        value: Any = document
        for step in path:
            value = value.get(step) if isinstance(value, Mapping) else None
        return "" if value is None else str(value)

    return found


def _external(document: Document, _: datetime) -> str:
    spec = document.get("spec") or {}
    addresses = [str(each) for each in spec.get("externalIPs") or ()]
    if spec.get("type") == "ExternalName":
        return str(spec.get("externalName", ""))
    if spec.get("type") == "LoadBalancer":
        ingress = ((document.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
        addresses += [str(each.get("ip") or each.get("hostname")) for each in ingress]
        return ",".join(addresses) or "<pending>"
    return ",".join(addresses) or "<none>"


def _cluster_ip(document: Document, _: datetime) -> str:
    return str((document.get("spec") or {}).get("clusterIP") or "<none>")


def _service_type(document: Document, _: datetime) -> str:
    return str((document.get("spec") or {}).get("type") or "ClusterIP")


def _ports(document: Document, _: datetime) -> str:
    ports = (document.get("spec") or {}).get("ports") or ()
    lines = []
    for port in ports:
        number = (
            f"{port.get('port')}:{port['nodePort']}"
            if port.get("nodePort")
            else str(port.get("port"))
        )
        lines.append(f"{number}/{port.get('protocol') or 'TCP'}")
    return ",".join(lines) or "<none>"


def _selector(document: Document, _: datetime) -> str:
    selector = (document.get("spec") or {}).get("selector") or {}
    return ",".join(f"{key}={value}" for key, value in sorted(selector.items())) or "<none>"


def _about(document: Document) -> Document:
    return document.get("involvedObject") or document.get("regarding") or {}


def _event_object(document: Document, _: datetime) -> str:
    about = _about(document)
    kind = str(about.get("kind") or "").lower()
    return f"{kind}/{about['name']}" if about.get("name") else kind


def _event_seen(first: bool) -> Callable[[Document, datetime], str]:
    names = (
        ("firstTimestamp", "deprecatedFirstTimestamp")
        if first
        else ("lastTimestamp", "deprecatedLastTimestamp")
    )

    def seen(document: Document, now: datetime) -> str:
        series = document.get("series") or {}
        times = [document.get(name) for name in names] + [document.get("eventTime")]
        if not first:
            times.insert(0, series.get("lastObservedTime"))
        moment = next((each for each in times if read_time(each) is not None), None)
        return UNKNOWN if moment is None else age(moment, now)

    return seen


def _event_count(document: Document, _: datetime) -> int:
    series = document.get("series") or {}
    return int(series.get("count") or document.get("count") or document.get("deprecatedCount") or 1)


def _event_source(document: Document, _: datetime) -> str:
    source = document.get("source") or document.get("deprecatedSource") or {}
    parts = [source.get("component"), source.get("host")]
    if not any(parts):
        reporter = document.get("reportingComponent") or document.get("reportingController")
        parts = [reporter, document.get("reportingInstance")]
    return ", ".join(str(part) for part in parts if part)


def _event_part(document: Document, _: datetime) -> str:
    return str(_about(document).get("fieldPath") or "")


def _message(document: Document, _: datetime) -> str:
    return str(document.get("message") or document.get("note") or "").strip()


NAME = CoreColumn(
    "Name", "string", _name, format="name", description="Name must be unique within a namespace."
)
AGE = CoreColumn("Age", "string", created_age, description="How long ago the object was created.")

_EVENT = (
    CoreColumn(
        "Last Seen",
        "string",
        _event_seen(first=False),
        description="Time when this event was last observed",
    ),
    CoreColumn("Type", "string", _at("type"), description="Type of this event (Normal, Warning)"),
    CoreColumn(
        "Reason", "string", _at("reason"), description="Why the event happened, in one word"
    ),
    CoreColumn("Object", "string", _event_object, description="Object that this event is about"),
    CoreColumn("Subobject", "string", _event_part, 1, description="Part of that object"),
    CoreColumn(
        "Source", "string", _event_source, 1, description="Component that reported the event"
    ),
    CoreColumn("Message", "string", _message, description="What happened, for a person"),
    CoreColumn(
        "First Seen",
        "string",
        _event_seen(first=True),
        1,
        description="Time when this event was first observed",
    ),
    CoreColumn("Count", "string", _event_count, 1, description="How often the event was observed"),
    NAME._replace(priority=1),
)

CORE_COLUMNS: Mapping[tuple[str, str], Sequence[CoreColumn]] = {
    ("", "configmaps"): (NAME, CoreColumn("Data", "string", _count("data", "binaryData")), AGE),
    ("", "secrets"): (
        NAME,
        CoreColumn("Type", "string", _at("type")),
        CoreColumn("Data", "string", _count("data")),
        AGE,
    ),
    ("", "namespaces"): (NAME, CoreColumn("Status", "string", _at("status", "phase")), AGE),
    ("", "serviceaccounts"): (NAME, CoreColumn("Secrets", "string", _count("secrets")), AGE),
    ("", "services"): (
        NAME,
        CoreColumn("Type", "string", _service_type),
        CoreColumn("Cluster-IP", "string", _cluster_ip),
        CoreColumn("External-IP", "string", _external),
        CoreColumn("Port(s)", "string", _ports),
        AGE,
        CoreColumn("Selector", "string", _selector, 1),
    ),
    ("", "events"): _EVENT,
    ("events.k8s.io", "events"): _EVENT,
    ("coordination.k8s.io", "leases"): (
        NAME,
        CoreColumn("Holder", "string", _at("spec", "holderIdentity")),
        AGE,
    ),
    ("apiextensions.k8s.io", "customresourcedefinitions"): (
        NAME,
        CoreColumn("Created At", "date", _at("metadata", "creationTimestamp")),
    ),
}
"""Columns by group and plural."""
