"""Feature flags of an installation: ConfigMap `config-features` in `knative-eventing`, with
Knative's names, as far as they apply here.

Three delivery flags are enabled by default: their fields have been part of Headrace from the start.
A flag that requests something that is not implemented is reported, never ignored: a user who
enables encryption must not believe that it is active.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from headrace.domain.field_errors import FieldError, invalid

FEATURES_CONFIG_MAP = "config-features"

_ENABLED, _SWITCH = "enabled", ("enabled", "disabled", "allowed")
_VALUE_SHOWN_MAX = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """The enabled features."""

    delivery_timeout: bool = True
    """`delivery.timeout`."""
    delivery_retry_after: bool = True
    """`delivery.retryAfterMax`."""
    delivery_backoff_max: bool = True
    """`delivery.backoffMax`."""
    kreference_group: bool = False
    """References by `group`, without a version."""
    cross_namespace_event_links: bool = False
    """`brokerRef.namespace` of Triggers, `channel.namespace` of Subscriptions."""
    eventtype_auto_create: bool = False
    """EventTypes are created from events that are seen."""
    api_server_source_filters: bool = False
    """`filters` of ApiServerSources."""


_SWITCHES = {
    "delivery-timeout": "delivery_timeout",
    "delivery-retryafter": "delivery_retry_after",
    "delivery-backoff-max": "delivery_backoff_max",
    "kreference-group": "kreference_group",
    "cross-namespace-event-links": "cross_namespace_event_links",
    "eventtype-auto-create": "eventtype_auto_create",
    "new-apiserversource-filters": "api_server_source_filters",
}

_NOT_IMPLEMENTED: Mapping[str, tuple[tuple[str, ...], str]] = {
    "authentication-oidc": (("disabled", "allowed"), "tokens are neither sent nor checked"),
    "transport-encryption": (
        ("disabled",),
        "addresses of Brokers are those that the ingress is configured with",
    ),
    "default-authorization-mode": (
        ("allow-same-namespace", "allow-all"),
        "there are no policies: every client that can reach the ingress may send events",
    ),
    "kreference-mapping": (("disabled",), "a reference must be to an object that has an address"),
}
"""Flags without effect: the values that request nothing, and what applies instead."""


def read_features(
    data: Mapping[str, Any], *, before: Features | None = None
) -> tuple[Features, list[FieldError]]:
    """Read the `data` of the ConfigMap. A flag with an invalid value keeps its value of `before`,
    and is returned as an error.

    Other flags are ignored: Knative has many for components that do not exist here.
    """
    before = before or Features()
    said: dict[str, bool] = {}
    errors: list[FieldError] = []
    for flag, field in _SWITCHES.items():
        if flag in data:
            value = _plain(data[flag])
            if value in _SWITCH:
                said[field] = value == _ENABLED
            else:
                errors.append(
                    invalid(_shown(data[flag]), f"data.{flag}", "expected enabled or disabled")
                )
                said[field] = getattr(before, field)
    for flag, (harmless, instead) in _NOT_IMPLEMENTED.items():
        if flag in data and _plain(data[flag]) not in harmless:
            details = f"not available in this version, {instead}; expected {' or '.join(harmless)}"
            errors.append(invalid(_shown(data[flag]), f"data.{flag}", details))
    return replace(Features(), **said), errors


def _plain(value: Any) -> str:
    return str(value).strip().lower()


def _shown(value: Any) -> str:
    return str(value)[:_VALUE_SHOWN_MAX]
