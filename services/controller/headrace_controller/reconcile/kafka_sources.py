"""KafkaSource, and that of Knative 0.5: the adapter `kafka`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from headrace.resources import kafka_source as rules
from headrace.resources.kind_rules import KindRules
from headrace.resources.kinds import KAFKA_SOURCE, LEGACY_KAFKA_SOURCE
from headrace.resources.resource import Resource, ResourceKind
from headrace.resources.source import is_paused
from headrace_controller.reconcile.registry import KindReconciler, ReconcileRequest
from headrace_controller.reconcile.sources import InvalidSource, SourceKind

_SELECTOR = "app.kubernetes.io/name=headrace,app.kubernetes.io/component=sources"
"""The pods of the sources service, for tools that scale by what pods use."""


def _config(request: ReconcileRequest) -> Mapping[str, Any]:
    source = request.resource
    net = source.spec.get("net") or {}
    config = {
        "bootstrapServers": list(rules.bootstrap_servers(source)),
        "topics": list(rules.topics(source)),
        "consumerGroup": rules.consumer_group(source),
        "consumers": rules.consumers(source),
        "initialOffset": source.spec.get("initialOffset") or "latest",
        "ordering": source.spec.get("ordering") or "ordered",
        "keyType": _key_type(source),
        "source": rules.event_source(source),
    }
    if (net.get("sasl") or {}).get("enable"):
        config["sasl"] = _secrets(net, "sasl", rules.SASL_SECRETS, needed=("user", "password"))
    if (net.get("tls") or {}).get("enable"):
        config["tls"] = _secrets(net, "tls", rules.TLS_SECRETS)
    return config


def _legacy_config(request: ReconcileRequest) -> Mapping[str, Any]:
    """Knative 0.5 read new groups from the oldest record."""
    return {**_config(request), "initialOffset": "earliest"}


def _key_type(source: Resource) -> str:
    found = rules.key_type(source)
    if found not in rules.KEY_TYPES:
        raise InvalidSource(
            "IncorrectKafkaKeyTypeLabel",
            f"label {rules.KEY_TYPE_LABEL} is {found!r}; use one of {', '.join(rules.KEY_TYPES)}",
            condition=rules.KEY_TYPE_CORRECT,
        )
    return found


def _secrets(
    net: Mapping[str, Any], block: str, names: Sequence[str], *, needed: Sequence[str] = ()
) -> Mapping[str, Any]:
    found = {}
    for name in names:
        reference = (net[block].get(name) or {}).get("secretKeyRef")
        if reference:
            found[name] = {"name": reference["name"], "key": reference["key"]}
        elif name in needed:
            raise InvalidSource(
                "SecretNotGiven",
                f"spec.net.{block}.{name}.secretKeyRef is missing; name a Secret and a key",
                condition=rules.CONNECTION_ESTABLISHED,
            )
    if ("cert" in found) != ("key" in found):
        raise InvalidSource(
            "SecretNotGiven",
            "spec.net.tls.cert and spec.net.tls.key belong together; give both or none",
            condition=rules.CONNECTION_ESTABLISHED,
        )
    return found


def _is_off(source: Resource) -> bool:
    return rules.consumers(source) == 0


def _reconciler(kind: ResourceKind, kind_rules: KindRules, config: Any) -> KindReconciler:
    found = SourceKind(
        kind=kind,
        rules=kind_rules,
        adapter="kafka",
        config=config,
        conditions=rules.CONDITIONS,
        event_types=rules.event_types,
        is_off=_is_off,
    ).reconciler()

    def decide(request: ReconcileRequest) -> None:
        source = request.resource
        request.status["consumers"] = 0 if is_paused(source) else rules.consumers(source)
        request.status["selector"] = _SELECTOR
        found.decide(request)

    return replace(found, decide=decide)


RECONCILER = _reconciler(KAFKA_SOURCE, rules.RULES, _config)
LEGACY_RECONCILER = _reconciler(LEGACY_KAFKA_SOURCE, rules.LEGACY_RULES, _legacy_config)
