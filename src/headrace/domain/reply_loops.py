"""Loops of replies: which subscriptions have replied in the chain that led to an event, and the
rate at which replies in a loop continue.

The hop count limits the length of a chain, but not the number of events: if two subscriptions each
receive every reply of both, every hop doubles the events, to 2**n after n hops. Replies in a loop
are therefore limited in rate, which limits the load for any fan-out.
"""

from dataclasses import dataclass

MEMBERS_MAX = 32
"""The newest members of a chain are kept. Only the hop count detects a loop with more members."""
HELD_SECONDS_MAX = 3_600.0
"""A reply that would have to wait longer than this becomes a dead letter."""
_MEMBER_CHARACTERS = 8


def member(uid: str) -> str:
    """Return the name of a subscription in a chain: the beginning of its uid, so that chains stay
    short.
    """
    return uid[:_MEMBER_CHARACTERS].replace(",", "_")


def extend(chain: str, uid: str) -> str:
    """Return the chain extended by a reply of the subscription with this uid."""
    members = [each for each in chain.split(",") if each][-(MEMBERS_MAX - 1) :]
    return ",".join([*members, member(uid)])


def circle(chain: str, uid: str) -> tuple[str, ...]:
    """Return the members of the loop through which an event returns to a subscription that has
    replied before; empty if it has not replied yet.
    """
    members = chain.split(",")
    own = member(uid)
    if own not in members:
        return ()
    last = len(members) - 1 - members[::-1].index(own)
    return tuple(dict.fromkeys(members[last:]))


@dataclass(slots=True)
class RateLimiter:
    """Lets `per_second` replies through, at equal intervals."""

    per_second: float
    next_at: float = 0.0

    def wait(self, now: float) -> float:
        """Return the seconds to wait before the next reply, and reserve its slot."""
        at = max(now, self.next_at)
        self.next_at = at + 1.0 / self.per_second
        return at - now

    def cancel_last(self) -> None:
        """Release the last slot that was reserved."""
        self.next_at -= 1.0 / self.per_second
