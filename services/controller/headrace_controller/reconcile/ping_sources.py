"""PingSource: the adapter `ping`."""

from collections.abc import Mapping
from typing import Any

from headrace.resources import ping_source as rules
from headrace.resources.kinds import PING_SOURCE
from headrace_controller.reconcile.registry import ReconcileRequest
from headrace_controller.reconcile.sources import SourceKind

_FIELDS = ("schedule", "timezone", "contentType", "data", "dataBase64")


def _config(request: ReconcileRequest) -> Mapping[str, Any]:
    spec = request.resource.spec
    return {
        "type": rules.EVENT_TYPE,
        "source": rules.event_source(request.resource),
        **{name: spec[name] for name in _FIELDS if spec.get(name)},
    }


RECONCILER = SourceKind(
    kind=PING_SOURCE,
    rules=rules.RULES,
    adapter="ping",
    config=_config,
    conditions=rules.CONDITIONS,
    event_types=lambda source: ((rules.EVENT_TYPE, rules.event_source(source)),),
).reconciler()
