"""What the dispatchers report of a subscription, as an informational condition; it does not affect
Ready.

Counts are in the metrics: a status that changed with every event would be written with every event.
"""

from headrace.domain.backend_name import KAFKA
from headrace.domain.egress import ALLOW_SETTING
from headrace.domain.subscription_state import SubscriptionState
from headrace.resources.conditions import Condition, failed, happy
from headrace.resources.kinds import TRIGGER
from headrace.resources.resource import Resource
from headrace_controller.reconcile.statuses import UNSUPPORTED_SCHEME


def health_condition(
    state: SubscriptionState,
    subscription: Resource,
    addressable_kind: str,
    unsupported: str = "",
    *,
    backend: str = KAFKA,
) -> Condition:
    """The DeliveryHealthy condition of a subscription: the most severe finding is the reason, the
    message has all of them.

    `addressable_kind` is the kind it reads from; `unsupported` says which of its destinations can
    never be called; `backend` has the dead letters.
    """
    findings = [
        *([(UNSUPPORTED_SCHEME, unsupported)] if unsupported else []),
        *_stopped(state),
        *_expiring(state, addressable_kind),
        *_failing(state, _look(subscription, backend)),
    ]
    return (
        failed(findings[0][0], "; ".join(message for _, message in findings))
        if findings
        else happy("")
    )


def _look(subscription: Resource, backend: str) -> str:
    """How to see the dead letters."""
    if backend == KAFKA:
        return f"headrace dead-letters {_named(subscription)}"
    return f"set a dead letter sink to receive them; they are in the {backend} backend"


def _named(subscription: Resource) -> str:
    """The arguments by which the command finds it: a Trigger needs no kind."""
    kind = "" if subscription.kind == TRIGGER else f"{subscription.kind.singular}/"
    return f"{kind}{subscription.name} -n {subscription.namespace}"


def _stopped(state: SubscriptionState) -> list[tuple[str, str]]:
    findings = []
    if state.refused:
        message = (
            "an event can neither be delivered nor written to the retry or dead letter topic, and"
            f" its lane has stopped: {state.refused}; fix the topic, delivery resumes automatically"
        )
        findings.append(("ParkingRefused", message))
    if state.denied:
        message = (
            f"{state.denied}; events for this address become dead letters; use another address, or"
            f" allow its network with {ALLOW_SETTING} of the dispatchers (docs/security.md)"
        )
        findings.append(("EgressDenied", message))
    return findings


def _expiring(state: SubscriptionState, addressable_kind: str) -> list[tuple[str, str]]:
    findings = []
    if state.expired:
        message = (
            f"events expired from the {addressable_kind}'s topic before they were delivered; raise"
            " its retention"
        )
        findings.append(("EventsExpired", message))
    if state.retention_used:
        message = (
            f"the oldest event not delivered has used {state.retention_used} % of the"
            f" {addressable_kind}'s retention; fix the subscriber or raise the retention before it"
            " expires"
        )
        findings.append(("EventsExpiringSoon", message))
    return findings


def _failing(state: SubscriptionState, look: str) -> list[tuple[str, str]]:
    findings = []
    if state.loop:
        message = (
            f"{state.loop}; exclude the replies of the others with a filter in one of them; such"
            " replies are slowed down until then"
        )
        findings.append(("ReplyLoop", message))
    if state.breaker:
        error = f" ({state.failing})" if state.failing else ""
        message = (
            f"the breaker is open: the subscriber fails every attempt{error}; events wait, without"
            " using up their attempts, until it answers a probe; look at the subscriber"
        )
        findings.append(("BreakerOpen", message))
    elif state.failing:
        message = (
            "every attempt fails; look at the subscriber; its events are retried as the delivery"
            f" policy says, and become dead letters after the last attempt: {state.failing}"
        )
        findings.append(("AttemptsFailing", message))
    # Otherwise it is the reason, and was named.
    if state.stalled and not (state.breaker or state.failing):
        message = (
            "partitions with undelivered events had no progress for 10 s; look at the subscriber"
            " and at the dispatchers' logs"
        )
        findings.append(("PartitionsStalled", message))
    if state.sink_rejected:
        message = (
            "the dead letter sink rejected dead letters in the last 10 minutes; they stay in the"
            f" topic and are not posted again: {look}"
        )
        findings.append(("DeadLettersRejected", message))
    if state.dead_letters:
        message = (
            "events could not be delivered in the last 10 minutes and are dead letters; see them"
            f" and the reasons: {look}"
        )
        findings.append(("DeadLetters", message))
    if state.filter_error:
        count = "fewer than 10" if state.filter_failures < 10 else f"about {state.filter_failures}"
        message = (
            f"the filter fails for events, which count as not matching: {count} evaluations in the"
            f" last 10 minutes, the first: {state.filter_error}; run headrace filter with such"
            " an event to see why, and change the filter (docs/filters.md)"
        )
        findings.append(("FilterFailing", message))
    return findings
