"""CamelSource, today's and that of Knative 0.5 to 0.7: the adapter `camel`."""

from collections.abc import Mapping
from typing import Any

from headrace.resources import camel_source as rules
from headrace.resources import legacy_camel_source as legacy
from headrace.resources.kinds import CAMEL_SOURCE, LEGACY_CAMEL_SOURCE
from headrace.resources.resource import Resource
from headrace_controller.reconcile.registry import ReconcileRequest
from headrace_controller.reconcile.sources import EventTypes, SourceKind

_FIELDS = ("uri", "route", "files", "properties", "propertiesFrom", "dependencies")


def _config(request: ReconcileRequest) -> Mapping[str, Any]:
    source = request.resource
    return {
        "type": rules.event_type(source),
        "source": rules.event_source(source),
        **{name: source.spec[name] for name in _FIELDS if source.spec.get(name)},
    }


def _event_types(source: Resource) -> EventTypes:
    return ((rules.event_type(source), rules.event_source(source)),)


RECONCILER = SourceKind(
    kind=CAMEL_SOURCE,
    rules=rules.RULES,
    adapter="camel",
    config=_config,
    conditions=rules.CONDITIONS,
    event_types=_event_types,
).reconciler()

LEGACY_RECONCILER = SourceKind(
    kind=LEGACY_CAMEL_SOURCE,
    rules=legacy.RULES,
    adapter="camel",
    config=_config,
    conditions=rules.CONDITIONS,
    event_types=_event_types,
    todays=legacy.todays,
).reconciler()
