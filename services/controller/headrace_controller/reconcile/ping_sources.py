"""PingSource, and CronJobSource of Knative 0.5: the adapter `ping`."""

from collections.abc import Mapping
from typing import Any

from headrace.resources import ping_source as rules
from headrace.resources.kinds import CRON_JOB_SOURCE, PING_SOURCE
from headrace.resources.resource import Resource
from headrace_controller.reconcile.registry import ReconcileRequest
from headrace_controller.reconcile.sources import SourceKind

_FIELDS = ("schedule", "timezone", "contentType", "data", "dataBase64")


def _config(request: ReconcileRequest) -> Mapping[str, Any]:
    spec = request.resource.spec
    return {
        **_common(request.resource, rules.EVENT_TYPE),
        **{name: spec[name] for name in _FIELDS if spec.get(name)},
    }


def _cron_job_config(request: ReconcileRequest) -> Mapping[str, Any]:
    spec = request.resource.spec
    return {
        **_common(request.resource, rules.CRON_JOB_EVENT_TYPE),
        "schedule": spec["schedule"],
        "contentType": "application/json",
        "data": rules.cron_job_data(spec.get("data") or ""),
    }


def _common(source: Resource, type_: str) -> Mapping[str, Any]:
    return {
        "type": type_,
        "source": rules.event_source(source),
        "missedRuns": rules.missed_runs(source),
    }


RECONCILER = SourceKind(
    kind=PING_SOURCE,
    rules=rules.RULES,
    adapter="ping",
    config=_config,
    conditions=rules.CONDITIONS,
    event_types=lambda source: ((rules.EVENT_TYPE, rules.event_source(source)),),
).reconciler()
CRON_JOB_RECONCILER = SourceKind(
    kind=CRON_JOB_SOURCE,
    rules=rules.CRON_JOB_RULES,
    adapter="ping",
    config=_cron_job_config,
    conditions=rules.CONDITIONS,
    event_types=lambda source: ((rules.CRON_JOB_EVENT_TYPE, rules.event_source(source)),),
).reconciler()
