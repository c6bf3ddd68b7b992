"""The objects that resources refer to, which a reconcile has to be shown."""

from collections.abc import Iterator, Mapping
from typing import Any

from headrace.resources.broker_defaults import DEFAULT_CONFIG, DEFAULTS_CONFIG_MAP
from headrace.resources.channel_defaults import CHANNEL_DEFAULTS_CONFIG_MAP
from headrace.resources.destination import api_version_of
from headrace.resources.features import FEATURES_CONFIG_MAP
from headrace.resources.resource import Reference, Resource
from headrace.resources.system_config import SYSTEM_NAMESPACE

NAMESPACE_KIND = ("v1", "Namespace")
SYSTEM_REFERENCES = frozenset(
    Reference("v1", "ConfigMap", SYSTEM_NAMESPACE, name)
    for name in (
        DEFAULTS_CONFIG_MAP,
        CHANNEL_DEFAULTS_CONFIG_MAP,
        FEATURES_CONFIG_MAP,
        DEFAULT_CONFIG["name"],
    )
)
"""ConfigMaps that apply to all resources."""


def named(owner: Resource, *refs: Any) -> Iterator[Reference]:
    """The references among `refs`, in the owner's namespace unless they name another one. An object
    that was not validated may have any value in their place; those are skipped.
    """
    for ref in refs:
        if isinstance(ref, Mapping) and ref.get("kind") and ref.get("name"):
            yield Reference(
                api_version_of(ref),
                str(ref["kind"]),
                str(ref.get("namespace") or owner.namespace),
                str(ref["name"]),
            )


def ref_of(destination: Any) -> Any:
    """The reference of a destination, if it has one."""
    return destination.get("ref") if isinstance(destination, Mapping) else None


def dead_letter_sink_of(owner: Resource) -> Any:
    """The reference of the dead letter sink in `spec.delivery`, if there is one."""
    block = owner.spec.get("delivery")
    return ref_of(block.get("deadLetterSink")) if isinstance(block, Mapping) else None
