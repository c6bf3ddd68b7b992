"""The state of a subscription that a dispatcher reports in addition to its metrics. The controller
shows it as conditions.

It is sent as text in `Instance.groups`. Unknown members in the text of a newer version are ignored.
"""

import json
from collections.abc import Iterable
from typing import Final, NamedTuple

REFUSED_CHARACTERS_MAX = 200
DENIED_CHARACTERS_MAX = 400
LOOP_CHARACTERS_MAX = 800
FAILING_CHARACTERS_MAX = 400
FILTER_ERROR_CHARACTERS_MAX = 400


class SubscriptionState(NamedTuple):
    """The state in one process or, after `merge`, in all of them. The defaults mean that the
    subscription is healthy.

    A tuple, because a process creates a thousand a second.
    """

    breaker: str = ""
    """State of the breaker; empty while it is closed."""
    refused: str = ""
    """Why a retry or dead letter record cannot be stored, which has stopped a lane; empty if none
    has stopped.
    """
    denied: str = ""
    """Which destination the dispatchers' egress policy denies, and why; empty if none is denied."""
    loop: str = ""
    """The subscriptions whose replies form a loop; empty if there is no loop."""
    failing: str = ""
    """The first error since the last success, with its destination; empty unless all attempts have
    failed for some seconds.
    """
    filter_error: str = ""
    """Why evaluations of the filter have failed in the last 10 minutes, by the first of them; empty
    if none has.
    """
    filter_failures: int = 0
    """How many have, rounded down to a power of ten."""
    expired: int = 0
    """Events that expired in the channel topic before they were delivered, since the process
    started.
    """
    stalled: int = 0
    """Partitions that have had work but no progress for 10 s."""
    retention_used: int = 0
    """Age of the oldest event that is not done, in percent of the channel topic's retention.
    Reported from 50 percent.
    """
    dead_letters: bool = False
    """Whether events were written to the dead letter topic in the last 10 minutes. Not a count,
    because that would change with every event.
    """
    sink_rejected: bool = False
    """Whether the dead letter sink rejected dead letters in the last 10 minutes."""
    draining: bool = False
    """Whether the subscription is not in the routing table any longer, and its last requests and
    commits are not done.
    """
    changing: bool = False
    """Whether requests that were sent before the last change of the subscription are in flight:
    their replies still go where they went before.
    """

    def write(self) -> str:
        """Return the text form, which is empty for a healthy subscription."""
        if self == HEALTHY:
            return ""
        values = {
            "breaker": self.breaker,
            "refused": self.refused[:REFUSED_CHARACTERS_MAX],
            "denied": self.denied[:DENIED_CHARACTERS_MAX],
            "loop": self.loop[:LOOP_CHARACTERS_MAX],
            "failing": self.failing[:FAILING_CHARACTERS_MAX],
            "filterError": self.filter_error[:FILTER_ERROR_CHARACTERS_MAX],
            "filterFailures": self.filter_failures,
            "expired": self.expired,
            "stalled": self.stalled,
            "retentionUsed": self.retention_used,
            "deadLetters": self.dead_letters,
            "sinkRejected": self.sink_rejected,
            "changing": self.changing,
            "draining": self.draining,
        }
        return json.dumps({name: value for name, value in values.items() if value})


HEALTHY: Final = SubscriptionState()
"""That of nearly all subscriptions, nearly always."""


def read(text: str) -> SubscriptionState:
    """Parse a text of `write`. Text and members that are not understood count as healthy."""
    try:
        values = json.loads(text)
    except ValueError:
        return SubscriptionState()
    if not isinstance(values, dict):
        return SubscriptionState()

    def text_of(name: str) -> str:
        value = values.get(name)
        return value if isinstance(value, str) else ""

    def count_of(name: str) -> int:
        value = values.get(name)
        return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0

    return SubscriptionState(
        breaker=text_of("breaker"),
        refused=text_of("refused"),
        denied=text_of("denied"),
        loop=text_of("loop"),
        failing=text_of("failing"),
        filter_error=text_of("filterError"),
        filter_failures=count_of("filterFailures"),
        expired=count_of("expired"),
        stalled=count_of("stalled"),
        retention_used=count_of("retentionUsed"),
        dead_letters=values.get("deadLetters") is True,
        sink_rejected=values.get("sinkRejected") is True,
        changing=values.get("changing") is True,
        draining=values.get("draining") is True,
    )


def merge(states: Iterable[SubscriptionState]) -> SubscriptionState:
    """Return the state of a subscription across all processes that serve it."""
    found = list(states)
    return SubscriptionState(
        breaker=next((each.breaker for each in found if each.breaker), ""),
        refused=next((each.refused for each in found if each.refused), ""),
        denied=next((each.denied for each in found if each.denied), ""),
        loop=next((each.loop for each in found if each.loop), ""),
        failing=next((each.failing for each in found if each.failing), ""),
        filter_error=next((each.filter_error for each in found if each.filter_error), ""),
        filter_failures=max((each.filter_failures for each in found), default=0),
        expired=sum(each.expired for each in found),
        stalled=sum(each.stalled for each in found),
        retention_used=max((each.retention_used for each in found), default=0),
        dead_letters=any(each.dead_letters for each in found),
        sink_rejected=any(each.sink_rejected for each in found),
        changing=any(each.changing for each in found),
        draining=any(each.draining for each in found),
    )
