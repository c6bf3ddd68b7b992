"""Loops of replies: who has answered in the chain that led to an event, and how fast answers in
a loop may continue.

The hop count bounds the length of a chain, and not the number of events: two subscriptions that
both take every reply of both make two of one at each hop, 2**n after n. Replies in a loop are
therefore limited in rate, which bounds it whatever the fan-out.
"""

from dataclasses import dataclass

MEMBERS_MAX = 32
"""The newest in a chain; a loop of more members is only seen by its hop count."""
HELD_SECONDS_MAX = 3_600.0
"""What would have to wait longer than this becomes a dead letter."""
_MEMBER_CHARACTERS = 8


def member(uid: str) -> str:
    """How a chain names a subscription: the beginning of its uid, so that a chain stays small."""
    return uid[:_MEMBER_CHARACTERS].replace(",", "_")


def extend(chain: str, uid: str) -> str:
    """The chain with one more answer, of the subscription with this uid."""
    members = [each for each in chain.split(",") if each][-(MEMBERS_MAX - 1) :]
    return ",".join([*members, member(uid)])


def circle(chain: str, uid: str) -> tuple[str, ...]:
    """The members of the loop that brings an event back to the subscription that answered before;
    empty when it has not yet.
    """
    members = chain.split(",")
    own = member(uid)
    if own not in members:
        return ()
    last = len(members) - 1 - members[::-1].index(own)
    return tuple(dict.fromkeys(members[last:]))


@dataclass(slots=True)
class RateLimiter:
    """Lets things through one after the other, `per_second` of them."""

    per_second: float
    next_at: float = 0.0

    def wait(self, now: float) -> float:
        """The seconds after which the next may go, which takes its place."""
        at = max(now, self.next_at)
        self.next_at = at + 1.0 / self.per_second
        return at - now

    def cancel_last(self) -> None:
        """The one that took the last place does not need it."""
        self.next_at -= 1.0 / self.per_second
