"""What the dispatchers say of a subscription, as a condition for people; it does not make a Trigger
unready.

Counts stay in the metrics: a status that changed with every event would be written with every
event.
"""

from headrace.domain.egress import ALLOW_SETTING
from headrace.domain.subscription_state import SubscriptionState
from headrace.resources.conditions import Condition, failed, happy
from headrace.resources.resource import Resource
from headrace_controller.reconcile.statuses import UNSUPPORTED_SCHEME


def health_condition(
    state: SubscriptionState, trigger: Resource, unsupported: str = ""
) -> Condition:
    """The DeliveryHealthy condition of this Trigger: the worst first as reason, everything in the
    message.

    `unsupported` says which of its destinations can never be called.
    """
    findings: list[tuple[str, str]] = [(UNSUPPORTED_SCHEME, unsupported)] if unsupported else []
    if state.refused:
        findings.append(
            (
                "ParkingRefused",
                (
                    "an event can neither be delivered nor parked and its lane stands still:"
                    f" {state.refused}"
                ),
            )
        )
    if state.denied:
        step = (
            f"give another address, or allow its network with {ALLOW_SETTING} of the dispatchers"
            " (docs/security.md)"
        )
        findings.append(
            (
                "EgressDenied",
                f"{state.denied}; what should go there is kept in the dead letter topic; {step}",
            )
        )
    if state.expired:
        findings.append(
            (
                "EventsExpired",
                (
                    "events expired from the Broker's topic before they were delivered; raise its"
                    " retention"
                ),
            )
        )
    if state.retention_used:
        lag = (
            f"the oldest event not delivered has used {state.retention_used} % of the Broker's"
            " retention"
        )
        findings.append(
            (
                "EventsExpiringSoon",
                f"{lag}; mend the subscriber or raise the retention before it expires",
            )
        )
    if state.loop:
        step = (
            "let a filter of one of them leave out the replies of the others; such replies are"
            " slowed down until then"
        )
        findings.append(("ReplyLoop", f"{state.loop}; {step}"))
    look = f"headrace dead-letters {trigger.name} -n {trigger.namespace}"
    if state.sink_rejected:
        said = (
            "the dead letter sink rejected dead letters in the last 10 minutes; they stay in the"
            " topic and are not posted again"
        )
        findings.append(("DeadLettersRejected", f"{said}: {look}"))
    if state.dead_letters:
        findings.append(
            (
                "DeadLetters",
                (
                    "events could not be delivered in the last 10 minutes and are dead letters;"
                    f" see them and why: {look}"
                ),
            )
        )
    if state.stalled:
        findings.append(("PartitionsStalled", "partitions with work had no progress for 10 s"))
    if state.breaker:
        findings.append(
            (
                "BreakerOpen",
                (
                    "the subscriber fails every attempt and is probed until it answers again;"
                    " events wait"
                ),
            )
        )
    return (
        failed(findings[0][0], "; ".join(message for _, message in findings))
        if findings
        else happy("")
    )
