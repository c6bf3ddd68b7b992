"""What a dispatcher reports of a subscription in addition to its metrics: the controller shows it
as conditions.

Carried as text in `Instance.groups`; a newer version's text is read as far as it is understood.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass

REFUSED_CHARACTERS_MAX = 200
DENIED_CHARACTERS_MAX = 400
LOOP_CHARACTERS_MAX = 800


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionState:
    """The state in one process, or (by `merge`) in all of them. All is well by default."""

    breaker: str = ""
    """State of the breaker, empty while it is closed."""
    refused: str = ""
    """Why a retry or dead letter record cannot be stored and a lane has stopped, empty when none
    has.
    """
    denied: str = ""
    """Which destination the dispatchers' egress policy denies and why, empty when none."""
    loop: str = ""
    """The subscriptions whose replies form a loop, empty when none do."""
    expired: int = 0
    """Events that the channel topic expired before they were delivered, since the process
    started.
    """
    stalled: int = 0
    """Partitions with work and without progress for 10 s."""
    retention_used: int = 0
    """Age of the oldest event not done, in percent of the channel topic's retention, from half of
    it on.
    """
    dead_letters: bool = False
    """Whether events went to the dead letter topic in the last 10 minutes. No count: it would
    change with every event.
    """
    sink_rejected: bool = False
    """Whether the dead letter sink rejected dead letters in the last 10 minutes."""

    def write(self) -> str:
        """The text form, empty when all is well."""
        values = {
            "breaker": self.breaker,
            "refused": self.refused[:REFUSED_CHARACTERS_MAX],
            "denied": self.denied[:DENIED_CHARACTERS_MAX],
            "loop": self.loop[:LOOP_CHARACTERS_MAX],
            "expired": self.expired,
            "stalled": self.stalled,
            "retentionUsed": self.retention_used,
            "deadLetters": self.dead_letters,
            "sinkRejected": self.sink_rejected,
        }
        values = {name: value for name, value in values.items() if value}
        return json.dumps(values) if values else ""


def read(text: str) -> SubscriptionState:
    """The state in a text of `write`; what is not understood counts as well."""
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
        expired=count_of("expired"),
        stalled=count_of("stalled"),
        retention_used=count_of("retentionUsed"),
        dead_letters=values.get("deadLetters") is True,
        sink_rejected=values.get("sinkRejected") is True,
    )


def merge(states: Iterable[SubscriptionState]) -> SubscriptionState:
    """The state of a subscription over all processes that serve it."""
    found = list(states)
    return SubscriptionState(
        breaker=next((each.breaker for each in found if each.breaker), ""),
        refused=next((each.refused for each in found if each.refused), ""),
        denied=next((each.denied for each in found if each.denied), ""),
        loop=next((each.loop for each in found if each.loop), ""),
        expired=sum(each.expired for each in found),
        stalled=sum(each.stalled for each in found),
        retention_used=max((each.retention_used for each in found), default=0),
        dead_letters=any(each.dead_letters for each in found),
        sink_rejected=any(each.sink_rejected for each in found),
    )
