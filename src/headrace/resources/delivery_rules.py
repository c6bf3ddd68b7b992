"""The rules of the `delivery` block in a spec, the same for every kind that has one."""

from collections.abc import Mapping
from typing import Any

from headrace.domain.field_errors import FieldError, disallowed, invalid
from headrace.resources import delivery_spec
from headrace.resources.destination import default as default_destination
from headrace.resources.destination import unsupported_uri
from headrace.resources.destination import validate as validate_destination
from headrace.resources.features import Features
from headrace.resources.json_shapes import ANY, Shape
from headrace.resources.resource import Resource

DELIVERY_SHAPE: Shape = {
    "deadLetterSink": ANY,
    "retry": ANY,
    "timeout": ANY,
    "backoffPolicy": ANY,
    "backoffDelay": ANY,
    "backoffMax": ANY,
    "retryAfterMax": ANY,
    "format": ANY,
}


def default_delivery(spec: dict[str, Any], namespace: str) -> None:
    """Set the namespace of a dead letter sink's reference, in place."""
    block = spec.get("delivery")
    if isinstance(block, Mapping) and isinstance(block.get("deadLetterSink"), Mapping):
        spec["delivery"] = {
            **block,
            "deadLetterSink": default_destination(block["deadLetterSink"], namespace),
        }


def validate_delivery(spec: Mapping[str, Any], path: str, features: Features) -> list[FieldError]:
    """The errors of a spec's `delivery` block, including its dead letter sink."""
    block = spec.get("delivery")
    if not isinstance(block, Mapping):
        return [] if block is None else [invalid(type(block).__name__, path, "expected an object")]
    _, errors = delivery_spec.parse(block, path)
    if isinstance(block.get("deadLetterSink"), Mapping):
        errors += validate_destination(
            block["deadLetterSink"], f"{path}.deadLetterSink", grouped=features.kreference_group
        )
    switched = (
        ("timeout", features.delivery_timeout),
        ("retryAfterMax", features.delivery_retry_after),
        ("backoffMax", features.delivery_backoff_max),
    )
    return errors + [
        disallowed(f"{path}.{name}")
        for name, on in switched
        if not on and block.get(name) is not None
    ]


def delivery_remarks(resource: Resource) -> list[str]:
    """Warnings about the `delivery` block of a valid resource."""
    block = resource.spec.get("delivery")
    sink = block.get("deadLetterSink") if isinstance(block, Mapping) else None
    problem = unsupported_uri(sink, "spec.delivery.deadLetterSink")
    return [problem] if problem else []
