"""Compile the filters of Knative Triggers and test whether events match.

All dialects are supported: `exact`, `prefix`, `suffix`, `all`, `any`, `not`, `cesql`, and
`attributes` for the older `filter.attributes`. Compile a filter once and evaluate it for each
event. A filter is evaluated over the context attributes of an event: a mapping from name to value
(`headrace.cloudevents.Event.attributes`).

>>> from headrace import filters
>>> orders = filters.compile([{"prefix": {"type": "order."}}, {"cesql": "INT(amount) > 100"}])
>>> event = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "order.created"}
>>> orders.matches({**event, "amount": "1500"})
True
>>> explanation = orders.explain({**event, "amount": "15"})
>>> explanation.matched, explanation.clause, explanation.wanted
(False, 'filters[1].cesql', 'INT(amount) > 100')

This module imports only the standard library. Its names are stable: a change that breaks callers
requires a new major version.
"""

from collections.abc import Mapping
from typing import Any

from headrace.domain.field_errors import FieldError
from headrace.domain.filter_clauses import OnError
from headrace.domain.filters import (
    CLAUSES_MAX,
    DEPTH_MAX,
    TEXT_LENGTH_MAX,
    Explanation,
    Filter,
    InvalidFilter,
    compile,
    entries_of_spec,
    remarks,
    validate,
)

__all__ = [
    "CLAUSES_MAX",
    "DEPTH_MAX",
    "TEXT_LENGTH_MAX",
    "Explanation",
    "FieldError",
    "Filter",
    "InvalidFilter",
    "compile",
    "compile_trigger",
    "remarks",
    "validate",
]


def compile_trigger(trigger: Mapping[str, Any], *, on_error: OnError | None = None) -> Filter:
    """Compile the filters of a Trigger from its manifest.

    `spec.filters` is used if it has entries, otherwise `spec.filter.attributes`. Without either,
    every event matches, as in Knative. `on_error` is called with the problem of each CESQL
    evaluation that fails. Raises `InvalidFilter`, which names the invalid fields.

    >>> trigger = {"spec": {"broker": "default", "filter": {"attributes": {"type": "paid"}}}}
    >>> compile_trigger(trigger).matches({"type": "paid"})
    True
    >>> compile_trigger({"spec": {"filters": [{"regex": {"type": ".*"}}]}})
    Traceback (most recent call last):
    headrace.domain.filters.InvalidFilter: invalid value: regex: spec.filters[0] ...
    """
    spec = trigger.get("spec") or {}
    return compile(entries_of_spec(spec), on_error=on_error, path="spec.filters")
