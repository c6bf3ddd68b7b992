"""Defaults of Brokers: ConfigMap `config-br-defaults` in `knative-eventing`, key
`default-br-config`.

    clusterDefault:
      brokerClass: Kafka                        # for Brokers without a class annotation
      apiVersion: v1                            # for Brokers without spec.config
      kind: ConfigMap
      name: kafka-broker-config
      namespace: knative-eventing
      delivery: {retry: 5}                      # for Brokers without spec.delivery
      disallowDifferentNamespaceConfig: false   # true: spec.config must be in the same namespace
      brokerClasses:                            # config and delivery by class, where they differ
        Kafka: {apiVersion: v1, kind: ConfigMap, name: large, namespace: shop}
    namespaceDefaults:                          # the same by namespace; overrides the cluster's
      shop: {brokerClass: Kafka, …}

The value is YAML text; a caller that has parsed it passes the document to `read_defaults`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from headrace.domain.field_errors import FieldError, invalid, missing
from headrace.resources import delivery_spec
from headrace.resources.destination import validate as validate_destination

DEFAULTS_CONFIG_MAP = "config-br-defaults"
DEFAULTS_KEY = "default-br-config"

KAFKA_CLASS = "Kafka"
DEFAULT_CONFIG: Mapping[str, str] = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "name": "kafka-broker-config",
    "namespace": "knative-eventing",
}
"""The ConfigMap of a Broker that names none. It need not exist; then the built-in defaults
apply.
"""

NAMESPACES_MAX = 10_000
CLASSES_MAX = 100
_REFERENCE = ("apiVersion", "kind", "name", "namespace")
_MEMBERS = frozenset(
    (*_REFERENCE, "brokerClass", "delivery", "disallowDifferentNamespaceConfig", "brokerClasses")
)


@dataclass(frozen=True, slots=True)
class ClassDefaults:
    """The defaults of Brokers of one class."""

    config: Mapping[str, str] | None = None
    delivery: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeDefaults:
    """The settings for one namespace, or for the cluster."""

    broker_class: str = ""
    general: ClassDefaults = field(default_factory=ClassDefaults)
    by_class: Mapping[str, ClassDefaults] = field(default_factory=dict)
    own_namespace_only: bool | None = None
    """Whether `spec.config` must be in the Broker's namespace; None if not set."""

    def of(self, broker_class: str) -> ClassDefaults | None:
        """The settings here for Brokers of this class; None if there are none."""
        if self.broker_class == broker_class:
            return self.general
        return self.by_class.get(broker_class) or (None if self.broker_class else self.general)


_BUILT_IN = ScopeDefaults(broker_class=KAFKA_CLASS, general=ClassDefaults(DEFAULT_CONFIG))


@dataclass(frozen=True, slots=True)
class BrokerDefaults:
    """All defaults; the built-in values where nothing is set."""

    cluster: ScopeDefaults = _BUILT_IN
    namespaces: Mapping[str, ScopeDefaults] = field(default_factory=dict)

    def class_in(self, namespace: str) -> str:
        """The class of a Broker that sets none."""
        own = self.namespaces.get(namespace)
        return (own.broker_class if own else "") or self.cluster.broker_class or KAFKA_CLASS

    def of(self, namespace: str, broker_class: str) -> ClassDefaults:
        """The defaults of a Broker of this class: its namespace's for the class, else the cluster's
        for the class, else the cluster's for all classes.
        """
        wide = self.cluster.of(broker_class) or self.cluster.general
        own = self.namespaces.get(namespace)
        said = own.of(broker_class) if own else None
        if said is None or said == ClassDefaults():
            return wide
        return said if said.config is not None else ClassDefaults(wide.config, said.delivery)

    def own_namespace_only(self, namespace: str) -> bool:
        """Whether `spec.config` of a Broker in this namespace must be in the same namespace."""
        own = self.namespaces.get(namespace)
        said = own.own_namespace_only if own else None
        return bool(self.cluster.own_namespace_only if said is None else said)


def read_defaults(document: Any) -> tuple[BrokerDefaults, list[FieldError]]:
    """Read the document of `default-br-config`. If there are errors, which name the fields of the
    document, none of it may be used.
    """
    errors: list[FieldError] = []
    whole = _mapping(document, "", errors)
    errors += [
        invalid(name, name[:200], "expected clusterDefault or namespaceDefaults")
        for name in _others(whole, _TOP)
    ]
    by_namespace = _mapping(whole.get("namespaceDefaults"), "namespaceDefaults", errors)
    if len(by_namespace) > NAMESPACES_MAX:
        errors.append(
            invalid(
                len(by_namespace),
                "namespaceDefaults",
                f"expected at most {NAMESPACES_MAX} namespaces",
            )
        )
        by_namespace = {}
    cluster = (
        _scope(whole.get("clusterDefault"), "clusterDefault", errors)
        if whole.get("clusterDefault")
        else _BUILT_IN
    )
    if cluster.general.config is None:
        cluster = ScopeDefaults(
            broker_class=cluster.broker_class,
            general=ClassDefaults(DEFAULT_CONFIG, cluster.general.delivery),
            by_class=cluster.by_class,
            own_namespace_only=cluster.own_namespace_only,
        )
    return BrokerDefaults(
        cluster,
        {
            name: _scope(each, f"namespaceDefaults.{name}", errors)
            for name, each in by_namespace.items()
        },
    ), errors


_TOP = frozenset(("clusterDefault", "namespaceDefaults"))


def _scope(document: Any, path: str, errors: list[FieldError]) -> ScopeDefaults:
    said = _mapping(document, path, errors)
    errors += [
        invalid(name, f"{path}.{name[:200]}", f"expected one of {', '.join(sorted(_MEMBERS))}")
        for name in _others(said, _MEMBERS)
    ]
    broker_class = said.get("brokerClass") or ""
    if not isinstance(broker_class, str):
        errors.append(invalid(type(broker_class).__name__, f"{path}.brokerClass", "expected text"))
        broker_class = ""
    only = said.get("disallowDifferentNamespaceConfig")
    if only is not None and not isinstance(only, bool):
        errors.append(
            invalid(
                str(only)[:80], f"{path}.disallowDifferentNamespaceConfig", "expected true or false"
            )
        )
        only = None
    classes = _mapping(said.get("brokerClasses"), f"{path}.brokerClasses", errors)
    if len(classes) > CLASSES_MAX:
        errors.append(
            invalid(
                len(classes), f"{path}.brokerClasses", f"expected at most {CLASSES_MAX} classes"
            )
        )
        classes = {}
    return ScopeDefaults(
        broker_class=broker_class,
        general=_class_defaults(said, path, errors),
        by_class={
            name: _class_defaults(each, f"{path}.brokerClasses.{name}", errors)
            for name, each in classes.items()
        },
        own_namespace_only=only,
    )


def _class_defaults(document: Any, path: str, errors: list[FieldError]) -> ClassDefaults:
    said = _mapping(document, path, errors)
    given = {name: said[name] for name in _REFERENCE if said.get(name)}
    wrong = [name for name, value in given.items() if not isinstance(value, str)]
    errors += [
        invalid(type(given[name]).__name__, f"{path}.{name}", "expected text") for name in wrong
    ]
    absent = [f"{path}.{name}" for name in ("apiVersion", "kind", "name") if name not in given]
    if given and absent:
        errors.append(missing(*absent))
    block = said.get("delivery")
    if block is not None:
        block = _mapping(block, f"{path}.delivery", errors)
        errors += delivery_spec.parse(block, f"{path}.delivery")[1]
        if block.get("deadLetterSink") is not None:
            errors += validate_destination(
                block["deadLetterSink"], f"{path}.delivery.deadLetterSink"
            )
    return ClassDefaults(given or None, block or None)


def _mapping(value: Any, path: str, errors: list[FieldError]) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        errors.append(invalid(type(value).__name__, path or DEFAULTS_KEY, "expected a mapping"))
        return {}
    return value


def _others(said: Mapping[str, Any], known: frozenset[str]) -> list[str]:
    return [name for name in said if name not in known]
