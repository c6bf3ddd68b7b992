"""What follows when an attempt has ended: a closed set of values.

A `DeliveryHandler` returns one of them; `headrace_dispatcher.lane` alone carries it out, so state,
concurrency and `Feed.done` change in one place.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from headrace.domain.errors import HeadraceError
from headrace.domain.record import Record


@dataclass(frozen=True, slots=True)
class Completed:
    """Nothing is left to do with the record: the event is delivered, or needs no other record."""


@dataclass(frozen=True, slots=True)
class WaitInPlace:
    """Keep the record and try again after `seconds`; the followers of its key wait with it."""

    seconds: float
    note: str | None = None
    """What the feed should remember across restarts, as `Feed.annotate`; None leaves the note
    unchanged.
    """


@dataclass(frozen=True, slots=True)
class Store:
    """Store `record` in the event's place (a retry record or a dead letter); the event is done once
    that is acknowledged.
    """

    topic: str
    record: Record
    on_stored: Callable[[], None]
    """Called once the record is stored, before the event is done."""
    on_refused: Callable[[HeadraceError], "AttemptResult | None"]
    """Called when the log refuses the record permanently: what to do instead, or None to stop the
    lane and try again until the cause is removed.
    """


@dataclass(frozen=True, slots=True)
class StoreReply:
    """Store the reply of the subscriber; the event is done once that is acknowledged."""

    topic: str
    record: Record
    on_stored: Callable[[], None]
    """As `Store.on_stored`."""
    on_refused: Callable[[HeadraceError], "AttemptResult"]
    """As `Store.on_refused`; a refused reply is a failed attempt and never stops the lane."""


@dataclass(frozen=True, slots=True)
class Resend:
    """Make another request at once: the reply, which is now set, is posted to a URL."""


AttemptResult = Completed | WaitInPlace | Store | StoreReply | Resend

COMPLETED: Final = Completed()
RESEND: Final = Resend()
