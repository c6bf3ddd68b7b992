"""What all kinds show alike: conditions with the generation they are about, dead letter sinks, and
why a resource is not acted upon.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from headrace.resources.conditions import (
    READY,
    Condition,
    ConditionSet,
    condition_of,
    failed,
    happy,
    is_true,
    unknown,
)
from headrace.resources.destination import unsupported
from headrace.resources.resource import Resource
from headrace_controller.reconcile.plan import Draft, SetStatus
from headrace_controller.reconcile.topics import ReconcileProblem

INVALID_SPEC = "InvalidSpec"
UNSUPPORTED_SCHEME = "UnsupportedScheme"
EVENT_POLICIES_DISABLED = happy(
    "OIDCDisabled", 'Feature "authentication-oidc" must be enabled to support Authorization'
)
OIDC_DISABLED = happy("authentication-oidc feature disabled")
NO_DEAD_LETTER_SINK = happy("DeadLetterSinkNotConfigured", "No dead letter sink is configured.")
DEAD_LETTERS_RETAINED = "dead letters stay in their topic until then"
EVENTS_DEAD_LETTERED = (
    "until then its events become dead letters at once, with the reason unsupported-scheme"
)
_CONDITION_FIELDS = ("conditions", "observedGeneration")


def set_status(
    resource: Resource,
    status: Mapping[str, Any],
    conditions: Sequence[Mapping[str, Any]],
    draft: Draft,
) -> None:
    """Plan the status, when it is another one than before.

    A generation counts as observed when there is a verdict on it: while Ready is Unknown, somebody
    who waits for this generation must not be told that it is in force.
    """
    undecided = any(entry["type"] == READY and entry["status"] == "Unknown" for entry in conditions)
    observed = resource.status.get("observedGeneration") if undecided else resource.generation
    shown = {**status, "conditions": list(conditions)} | (
        {} if observed is None else {"observedGeneration": observed}
    )
    if shown != resource.status:
        draft.add(SetStatus(resource, shown))


def set_fault_status(
    resource: Resource,
    conditions: ConditionSet,
    name: str,
    fault: Condition,
    draft: Draft,
    *,
    now: str,
) -> None:
    """Plan a status that says why nothing is done about this resource: condition `name`; what it
    shows otherwise stands, as it goes on.
    """
    standing = {
        each: found
        for each in conditions.dependents
        if (found := condition_of(resource.status, each))
    }
    before = resource.status.get("conditions")
    entries = conditions.render(
        {**standing, name: fault}, before=before if isinstance(before, list) else (), now=now
    )
    kept = {key: value for key, value in resource.status.items() if key not in _CONDITION_FIELDS}
    set_status(resource, kept, entries, draft)


def invalid_spec(fault: str) -> Condition:
    """The condition of a resource that would have been refused, had it come through our own API."""
    return failed(INVALID_SPEC, fault)


def resolved(url: str, path: str, consequence: str) -> Condition:
    """The condition of a destination whose URL is known; it says when that can never be called, and
    the `consequence`.
    """
    problem = unsupported(url, path)
    return happy(UNSUPPORTED_SCHEME, f"{problem}; {consequence}") if problem else happy("")


def condition_of_problem(problem: ReconcileProblem) -> Condition:
    """A problem as a condition: one that passes by itself is Unknown, the others need somebody."""
    return (unknown if problem.waiting else failed)(problem.reason, problem.message)


def dead_letter_status(url: str, ca_certs: str | None, audience: str | None) -> dict[str, str]:
    """The fields of the delivery status."""
    fields = {
        "deadLetterSinkUri": url,
        "deadLetterSinkCACerts": ca_certs,
        "deadLetterSinkAudience": audience,
    }
    return {key: value for key, value in fields.items() if value}


def was_ready(resource: Resource) -> bool:
    """Whether this very generation was Ready before.

    A process that joins reads the whole table before it serves, so what all live processes once
    had, all of them have still.
    """
    return resource.status.get("observedGeneration") == resource.generation and is_true(
        resource.status, READY
    )
