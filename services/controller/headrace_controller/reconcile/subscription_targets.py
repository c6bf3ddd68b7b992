"""The destinations of a Subscription and its delivery settings, which it has from its channel where
it does not say otherwise; the same for every kind of channel.
"""

from collections.abc import Mapping
from typing import Any

from headrace.domain.routing import Destination
from headrace.resources import delivery_spec
from headrace.resources import subscription as rules
from headrace.resources.conditions import (
    HAPPY,
    READY,
    Condition,
    ConditionStatus,
    condition_of,
    failed,
    happy,
    unknown,
)
from headrace.resources.resource import Resource
from headrace_controller.reconcile.registry import ReconcileRequest
from headrace_controller.reconcile.statuses import (
    DEAD_LETTER_SINK,
    REPLY,
    SUBSCRIBER,
    UNSUPPORTED_SCHEME,
    resolve_target,
)


class Targets:
    """The destinations of one Subscription, as far as they can be resolved."""

    def __init__(self, request: ReconcileRequest, problem: Condition | None) -> None:
        """`problem` is why there is no channel to read from; None if there is one."""
        self.fields: dict[str, str] = {}
        """`status.physicalSubscription`."""
        self._request = request
        self._conditions = [problem] if problem is not None else []

    def resolve(self, prefix: str, destination: Any) -> Destination | None:
        """The destination with this prefix in the status; None if there is none, or if it cannot be
        resolved.
        """
        if not rules.is_given(destination):
            return None
        path, reason = _PATHS[prefix], f"{prefix[0].upper()}{prefix[1:]}ResolveFailed"
        found = resolve_target(self._request, destination, prefix, path=path, reason=reason)
        condition = found.condition
        if found.destination is None:
            condition = failed(reason, f"Failed to resolve {path}: {condition.message}")
        self._conditions.append(condition)
        self.fields.update(found.fields)
        return found.destination

    def condition(self) -> Condition:
        """The condition ReferencesResolved: the first problem, else every remark."""
        for each in self._conditions:
            if each.status is not ConditionStatus.TRUE:
                return each
        remarks = [each for each in self._conditions if each.reason]
        return (
            happy(UNSUPPORTED_SCHEME, "; ".join(each.message for each in remarks))
            if remarks
            else HAPPY
        )


_PATHS = {
    SUBSCRIBER: "spec.subscriber",
    REPLY: "spec.reply",
    DEAD_LETTER_SINK: "spec.delivery.deadLetterSink",
}


def channel_readiness(channel: Resource) -> Condition:
    """Condition ChannelReady of a Subscription."""
    ready = condition_of(channel.status, READY)
    if ready is not None and ready.status is ConditionStatus.TRUE:
        return HAPPY
    text = f"{channel.kind.kind} {channel.name} is not ready"
    return unknown(
        "ChannelNotReady", f"{text}: {ready.message}" if ready and ready.message else text
    )


def delivery_of(
    subscription: Resource, channel: Resource | None
) -> tuple[delivery_spec.DeliverySpec, Mapping[str, Any] | None]:
    """The Subscription's own delivery block, else the channel's; and the dead letter sink of the
    former, else of the latter.
    """
    blocks = [
        block
        for each in (subscription, channel)
        if each is not None and isinstance(block := each.spec.get("delivery"), Mapping)
    ]
    parsed = [delivery_spec.parse(block, "spec.delivery")[0] for block in blocks]
    sinks = (each.dead_letter_sink for each in parsed if each.dead_letter_sink)
    return (parsed[0] if parsed else delivery_spec.DeliverySpec()), next(sinks, None)
