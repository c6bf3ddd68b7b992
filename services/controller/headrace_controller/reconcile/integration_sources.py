"""IntegrationSource: the adapter that each variant has."""

from collections.abc import Callable, Mapping
from typing import Any

from headrace.resources import integration_source as rules
from headrace.resources.kinds import INTEGRATION_SOURCE
from headrace.resources.resource import Resource
from headrace_controller.reconcile import aws_sources
from headrace_controller.reconcile.registry import ReconcileRequest
from headrace_controller.reconcile.sources import InvalidSource, SourceKind

_TIMER_FIELDS = ("period", "message", "contentType", "repeatCount")


def _timer_config(request: ReconcileRequest) -> Mapping[str, Any]:
    type_, source = rules.event_type(request.resource)
    given = rules.variant_spec(request.resource, rules.TIMER) or {}
    fields = {name: given[name] for name in _TIMER_FIELDS if given.get(name) is not None}
    subject = rules.event_subject(rules.TIMER)
    return {"type": type_, "source": source, "subject": subject, "message": "", **fields}


Config = Callable[[ReconcileRequest], Mapping[str, Any]]
VARIANTS: Mapping[str, tuple[str, Config]] = {
    rules.TIMER: ("timer", _timer_config),
    rules.SQS: ("aws-sqs", aws_sources.sqs_config),
}
"""Adapter and configuration of each variant that is supported."""


def _adapter(source: Resource) -> str:
    [variant] = rules.variants_of(source)
    return VARIANTS[variant][0]


def _config(request: ReconcileRequest) -> Mapping[str, Any]:
    [variant] = rules.variants_of(request.resource)
    if variant not in VARIANTS:
        supported = ", ".join(f"spec.{name}" for name in VARIANTS)
        raise InvalidSource(
            "NotSupported", f"this version does not support spec.{variant}; it has {supported}"
        )
    return VARIANTS[variant][1](request)


RECONCILER = SourceKind(
    kind=INTEGRATION_SOURCE,
    rules=rules.RULES,
    adapter=_adapter,
    config=_config,
    conditions=rules.CONDITIONS,
    event_types=lambda source: (rules.event_type(source),),
).reconciler()
