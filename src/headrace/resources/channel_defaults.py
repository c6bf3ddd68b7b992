"""Defaults of Channels: ConfigMap `default-ch-webhook` in `knative-eventing`, key
`default-ch-config`.

    clusterDefault:                             # for Channels without spec.channelTemplate
      apiVersion: messaging.knative.dev/v1beta1
      kind: KafkaChannel
      spec: {numPartitions: 3}
    namespaceDefaults:                          # the same by namespace
      shop: {apiVersion: messaging.knative.dev/v1, kind: InMemoryChannel}

The value is YAML text; a caller that has parsed it passes the document to `read_defaults`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from headrace.domain.field_errors import FieldError, invalid, missing

CHANNEL_DEFAULTS_CONFIG_MAP = "default-ch-webhook"
CHANNEL_DEFAULTS_KEY = "default-ch-config"
NAMESPACES_MAX = 10_000

BUILT_IN_TEMPLATE: Mapping[str, Any] = {
    "apiVersion": "messaging.knative.dev/v1beta1",
    "kind": "KafkaChannel",
}
"""The template if neither the Channel nor the ConfigMap names one."""
_TOP = ("clusterDefault", "namespaceDefaults")
_TEMPLATE = ("apiVersion", "kind", "spec")


@dataclass(frozen=True, slots=True)
class ChannelDefaults:
    """All defaults; the built-in template where nothing is set."""

    cluster: Mapping[str, Any] = field(default_factory=lambda: BUILT_IN_TEMPLATE)
    namespaces: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def template_in(self, namespace: str) -> Mapping[str, Any]:
        """The template of a Channel that names none."""
        return self.namespaces.get(namespace, self.cluster)


def read_defaults(document: Any) -> tuple[ChannelDefaults, list[FieldError]]:
    """Read the document of `default-ch-config`. If there are errors, which name the fields of the
    document, none of it may be used.
    """
    errors: list[FieldError] = []
    whole = _mapping(document, "", errors)
    _reject_others(whole, _TOP, "", errors)
    by_namespace = _mapping(whole.get("namespaceDefaults"), "namespaceDefaults", errors)
    if len(by_namespace) > NAMESPACES_MAX:
        details = f"expected at most {NAMESPACES_MAX} namespaces"
        errors.append(invalid(len(by_namespace), "namespaceDefaults", details))
        by_namespace = {}
    cluster = whole.get("clusterDefault")
    return ChannelDefaults(
        _template(cluster, "clusterDefault", errors) if cluster else BUILT_IN_TEMPLATE,
        {
            name: _template(each, f"namespaceDefaults.{name}", errors)
            for name, each in by_namespace.items()
        },
    ), errors


def _template(document: Any, path: str, errors: list[FieldError]) -> Mapping[str, Any]:
    given = _mapping(document, path, errors)
    _reject_others(given, _TEMPLATE, path, errors)
    absent = [f"{path}.{name}" for name in ("apiVersion", "kind") if not given.get(name)]
    if absent:
        errors.append(missing(*absent))
    errors += [
        invalid(type(given[name]).__name__, f"{path}.{name}", "expected text")
        for name in ("apiVersion", "kind")
        if given.get(name) and not isinstance(given[name], str)
    ]
    if given.get("spec") is not None:
        _mapping(given["spec"], f"{path}.spec", errors)
    return given


def _mapping(value: Any, path: str, errors: list[FieldError]) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        where = path or CHANNEL_DEFAULTS_KEY
        errors.append(invalid(type(value).__name__, where, "expected a mapping"))
        return {}
    return value


def _reject_others(
    given: Mapping[str, Any], known: tuple[str, ...], path: str, errors: list[FieldError]
) -> None:
    prefix = f"{path}." if path else ""
    errors += [
        invalid(name[:200], f"{prefix}{name[:200]}", f"expected one of {', '.join(known)}")
        for name in given
        if name not in known
    ]
