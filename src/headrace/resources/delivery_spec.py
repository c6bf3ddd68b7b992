"""The `delivery` block of a manifest, and the delivery policy that results from the blocks of a
Trigger and its Broker.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from headrace.domain.delivery import BackoffPolicy, DeliveryPolicy
from headrace.domain.field_errors import FieldError, disallowed, invalid
from headrace.resources.durations import InvalidDuration, parse_duration


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliverySpec:
    """A `delivery` block as written: None means not set, which differs from zero. Durations are in
    seconds.
    """

    retry: int | None = None
    timeout_seconds: float | None = None
    backoff: BackoffPolicy | None = None
    delay_seconds: float | None = None
    backoff_max_seconds: float | None = None
    retry_after_max_seconds: float | None = None
    format: str | None = None
    """`binary` or `json`, the values of `headrace.domain.routing.Format`."""
    dead_letter_sink: Mapping[str, Any] | None = None
    """The Destination as written; it is validated where it is resolved."""


def parse(mapping: Mapping[str, Any], path: str) -> tuple[DeliverySpec, list[FieldError]]:
    """Parse a `delivery` block at `path` (such as `spec.delivery`).

    Invalid fields are returned as errors, one per field, and count as not set; null counts as not
    set too. Nothing is raised.
    """
    found: dict[str, Any] = {}
    errors: list[FieldError] = []
    for name, value in mapping.items():
        if name not in _FIELDS:
            errors.append(disallowed(f"{path}.{name}"))
        elif value is not None:
            field, read = _FIELDS[name]
            try:
                found[field] = read(value)
            except ValueError as error:
                errors.append(invalid(_shown(value), f"{path}.{name}", str(error)))
    return DeliverySpec(**found), errors


def overlay(trigger: DeliverySpec | None, broker: DeliverySpec | None) -> DeliverySpec:
    """The effective block, field by field: the Trigger's value if it is set, else the Broker's."""
    if trigger is None or broker is None:
        return trigger or broker or DeliverySpec()
    return DeliverySpec(
        **{
            field.name: getattr(broker, field.name)
            if (own := getattr(trigger, field.name)) is None
            else own
            for field in fields(DeliverySpec)
        }
    )


def merge(trigger: DeliverySpec | None, broker: DeliverySpec | None) -> DeliveryPolicy:
    """Return the effective policy: Trigger over Broker over the defaults, field by field."""
    spec = overlay(trigger, broker)
    said = {field.name: getattr(spec, field.name) for field in fields(DeliveryPolicy)}
    return DeliveryPolicy(**{name: value for name, value in said.items() if value is not None})


_RETRY_MAX = 2**31 - 1
_SHOWN_MAX = 80


def _shown(value: object) -> str:
    """A value for an error message, formatted as Go does where Knative shows it, and never a whole
    document.
    """
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= _SHOWN_MAX else text[:_SHOWN_MAX] + "…"


def _read_retry(value: object) -> int:
    # A bool is an int in Python, but not in the API.
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("expected a whole number of retries")
    if not 0 <= value <= _RETRY_MAX:
        raise ValueError("" if value < 0 else f"expected at most {_RETRY_MAX}")
    return value


def _read_duration(value: object) -> float:
    if not isinstance(value, str):
        raise InvalidDuration("expected an ISO-8601 duration in quotes, such as PT0.2S")
    seconds = parse_duration(value)
    if seconds < 0:
        raise InvalidDuration("expected a duration that is not negative")
    return seconds


def _read_positive_duration(value: object) -> float:
    seconds = _read_duration(value)
    if seconds == 0:
        raise InvalidDuration("expected a duration above zero")
    return seconds


def _one_of(*names: str) -> Callable[[object], str]:
    def read(value: object) -> str:
        if not isinstance(value, str) or value not in names:
            raise ValueError(f"expected {' or '.join(names)}")
        return value

    return read


def _read_backoff(value: object) -> BackoffPolicy:
    return BackoffPolicy(_one_of(*BackoffPolicy)(value))


def _read_sink(value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError("expected a destination with ref, uri or both")
    return value


_FIELDS: Mapping[str, tuple[str, Callable[[object], object]]] = {
    "retry": ("retry", _read_retry),
    "timeout": ("timeout_seconds", _read_positive_duration),
    "backoffPolicy": ("backoff", _read_backoff),
    "backoffDelay": ("delay_seconds", _read_duration),
    "backoffMax": ("backoff_max_seconds", _read_positive_duration),
    "retryAfterMax": ("retry_after_max_seconds", _read_duration),
    "format": ("format", _one_of("binary", "json")),
    "deadLetterSink": ("dead_letter_sink", _read_sink),
}
