"""The states of one event in one subscription, as a transition table.

The first state applies once the event has passed the subscription's filter. Every step of the
dispatcher that moves an event calls `after`, so an impossible step (two answers for one request,
work on an event that was withdrawn) raises immediately instead of causing a lost or duplicate event
later. Only this table decides which step may follow which; the module does not know what the steps
do.
"""

from collections.abc import Mapping
from enum import StrEnum


class AttemptState(StrEnum):
    """The state of an event."""

    WAITING = "waiting"
    """In a lane or a heap: not due, not its turn, or held by the breaker."""
    SENDING = "sending"
    """A request to the subscriber is in flight."""
    REPLYING = "replying"
    """The subscriber has accepted it; its reply is being stored or posted."""
    STORING = "storing"
    """A retry or dead letter record is being written."""
    STUCK = "stuck"
    """That record was refused permanently: the lane stops, with an alarm, and nothing is
    committed.
    """
    DONE = "done"
    """Its offset may be committed: delivered, or safe in another topic."""
    WITHDRAWN = "withdrawn"
    """Another process has it now, or this one ends: dropped here, not committed here."""


class AttemptEvent(StrEnum):
    """What happens to an event."""

    SEND = "send"
    """Its turn: the request is sent."""
    SEND_REPLY = "send-reply"
    """Its turn, and only the reply was left to do."""
    DELIVERED = "delivered"
    """2xx, and nothing comes back, or what comes back has nowhere to go."""
    REPLIED = "replied"
    """2xx with an event that goes somewhere."""
    HOLD = "hold"
    """Failed; tried again in place (ordered delivery)."""
    STORE = "store"
    """Cannot continue here: to the retry topic, a delay topic or the dead letter topic."""
    REPLY_STORED = "reply-stored"
    """The reply is stored or accepted."""
    STORED = "stored"
    """The record is acknowledged by all in-sync replicas."""
    STORE_REFUSED = "store-refused"
    """The record will never be written."""
    RELEASE = "release"
    """The cause of the refusal was removed."""
    WITHDRAW = "withdraw"
    """The partition was revoked or lost, or the subscription is gone."""


_TRANSITIONS: Mapping[AttemptState, Mapping[AttemptEvent, AttemptState]] = {
    AttemptState.WAITING: {
        AttemptEvent.SEND: AttemptState.SENDING,
        AttemptEvent.SEND_REPLY: AttemptState.REPLYING,
        AttemptEvent.STORE: AttemptState.STORING,
        AttemptEvent.WITHDRAW: AttemptState.WITHDRAWN,
    },
    AttemptState.SENDING: {
        AttemptEvent.DELIVERED: AttemptState.DONE,
        AttemptEvent.REPLIED: AttemptState.REPLYING,
        AttemptEvent.HOLD: AttemptState.WAITING,
        AttemptEvent.STORE: AttemptState.STORING,
        AttemptEvent.WITHDRAW: AttemptState.WITHDRAWN,
    },
    AttemptState.REPLYING: {
        AttemptEvent.REPLY_STORED: AttemptState.DONE,
        AttemptEvent.HOLD: AttemptState.WAITING,
        AttemptEvent.STORE: AttemptState.STORING,
        AttemptEvent.WITHDRAW: AttemptState.WITHDRAWN,
    },
    AttemptState.STORING: {
        AttemptEvent.STORED: AttemptState.DONE,
        AttemptEvent.STORE_REFUSED: AttemptState.STUCK,
        AttemptEvent.WITHDRAW: AttemptState.WITHDRAWN,
    },
    AttemptState.STUCK: {
        AttemptEvent.RELEASE: AttemptState.STORING,
        AttemptEvent.WITHDRAW: AttemptState.WITHDRAWN,
    },
    AttemptState.DONE: {},
    AttemptState.WITHDRAWN: {},
}

TERMINAL = frozenset(state for state, steps in _TRANSITIONS.items() if not steps)


class IllegalTransition(Exception):
    """A step that is not allowed in this state: an error in the caller, never a property of an
    event.
    """

    def __init__(self, state: AttemptState, step: AttemptEvent) -> None:
        allowed = ", ".join(_TRANSITIONS[state]) or "nothing"
        super().__init__(f"an event that is {state} cannot {step}; what can follow is {allowed}")
        self.state = state
        self.step = step


def after(state: AttemptState, step: AttemptEvent) -> AttemptState:
    """Return the next state. Raises `IllegalTransition`."""
    try:
        return _TRANSITIONS[state][step]
    except KeyError:
        raise IllegalTransition(state, step) from None


def as_markdown() -> str:
    """Return the table as `docs/delivery.md` shows it: one row for each state, one column for each
    state that can follow.
    """
    targets = [
        state
        for state in AttemptState
        if any(state in steps.values() for steps in _TRANSITIONS.values())
    ]
    rows = [["from \\ to", *targets], ["---"] * (len(targets) + 1)]
    for state, steps in _TRANSITIONS.items():
        if steps:
            rows.append(
                [
                    f"**{state}**",
                    *(
                        ", ".join(step for step, to in steps.items() if to is target)
                        for target in targets
                    ),
                ]
            )
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
