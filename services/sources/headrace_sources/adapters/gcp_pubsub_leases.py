"""The messages of a subscription that this process holds: which of them may be emitted now, which
have to wait for another one with the same ordering key, and which go back to Pub/Sub.

Nothing here does I/O. The rules:

* Of the messages with one ordering key, one is emitted at a time, in the order of their arrival.
* When the sink has not taken a message, it goes back to Pub/Sub for a time that grows with each
  failure, and with it all later messages of its ordering key. Until it returns, messages of this
  key go back as well: Pub/Sub delivers all of them again, in order.
* A message that is delivered again while it is held is not emitted twice.
"""

from collections import OrderedDict, deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from headrace.domain.backoff import Backoff
from headrace.domain.event import Event

BACKOFF: Final = Backoff((10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 600.0))
"""Until a message is delivered again that the sink has not taken. Pub/Sub takes 0 to 600 s."""
REMEMBERED_MAX: Final = 10_000
"""Messages whose failures are counted, and ordering keys whose first message has gone back. Of the
oldest ones beyond that, the backoff starts from its beginning and the order is not guarded.
"""


@dataclass(slots=True)
class HeldMessage:
    """One message from its arrival until it is acknowledged or has gone back."""

    message_id: str
    ack_id: str
    """Of the newest delivery; those before are no longer valid."""
    ordering_key: str
    size: int
    """Bytes, as Pub/Sub counts them."""
    event: Event
    taken: bool = False
    """Whether the sink has it; the acknowledgement may still be on its way."""


@dataclass(frozen=True, slots=True)
class Postponed:
    """Messages that go back to Pub/Sub, which delivers them again after so many seconds."""

    ack_ids: tuple[str, ...]
    seconds: int


@dataclass(frozen=True, slots=True)
class _Blocked:
    """An ordering key whose first message has gone back."""

    message_id: str
    due: float
    """When that one is delivered again, monotonic."""
    until: float
    """After this it is not waited for."""


class MessageLeases:
    """See the module."""

    def __init__(self, deadline_seconds: float) -> None:
        """`deadline_seconds` is the time after which Pub/Sub delivers a message again."""
        self._deadline = deadline_seconds
        self._held: dict[str, HeldMessage] = {}
        self._lanes: dict[str, deque[HeldMessage]] = {}
        self._failures: OrderedDict[str, int] = OrderedDict()
        self._blocked: OrderedDict[str, _Blocked] = OrderedDict()
        self.size = 0
        """Bytes of what is held."""

    def __len__(self) -> int:
        return len(self._held)

    @property
    def ack_ids(self) -> Collection[str]:
        """Of everything that is held."""
        return [each.ack_id for each in self._held.values()]

    def receive(self, message: HeldMessage, now: float) -> HeldMessage | Postponed | None:
        """Take a delivery. The result is a message to emit now, one that goes back, or None if
        there is nothing to do: it waits for another one, or is held already.
        """
        known = self._held.get(message.message_id)
        if known is not None:
            known.ack_id = message.ack_id
            return None
        key = message.ordering_key
        if not key:
            self._hold(message)
            return message
        wait = self._blocked_seconds(message, now)
        if wait > 0:
            return Postponed((message.ack_id,), round(wait))
        self._hold(message)
        lane = self._lanes.setdefault(key, deque())
        lane.append(message)
        return message if len(lane) == 1 else None

    def taken(self, message: HeldMessage) -> HeldMessage | None:
        """The sink has it. Return the next message of its ordering key, to emit now. It is held
        until `acknowledged` or `postpone`.
        """
        message.taken = True
        self._failures.pop(message.message_id, None)
        return self._advance(message)

    def failed(self, message: HeldMessage, now: float) -> Postponed:
        """The sink has not taken it."""
        failures = self._failures.pop(message.message_id, 0) + 1
        self._failures[message.message_id] = failures
        seconds = BACKOFF.seconds(failures)
        back = [message]
        if message.ordering_key:
            back = list(self._lanes.pop(message.ordering_key, back))
            # It may return as late as one deadline after its time.
            due = now + seconds
            self._blocked[message.ordering_key] = _Blocked(
                message.message_id, due, due + self._deadline
            )
            self._blocked.move_to_end(message.ordering_key)
        for remembered in (self._failures, self._blocked):
            while len(remembered) > REMEMBERED_MAX:
                remembered.popitem(last=False)
        self._drop(back)
        return Postponed(tuple(each.ack_id for each in back), round(seconds))

    def to_acknowledge(self) -> list[HeldMessage]:
        """What the sink has taken and is not acknowledged."""
        return [each for each in self._held.values() if each.taken]

    def acknowledged(self, messages: Iterable[HeldMessage]) -> None:
        """Pub/Sub has the acknowledgements."""
        self._drop(messages)

    def _advance(self, message: HeldMessage) -> HeldMessage | None:
        lane = self._lanes.get(message.ordering_key)
        if lane is None or lane[0] is not message:
            return None
        lane.popleft()
        if lane:
            return lane[0]
        del self._lanes[message.ordering_key]
        return None

    def _blocked_seconds(self, message: HeldMessage, now: float) -> float:
        """How long a message has to wait for the first one of its key that has gone back."""
        blocked = self._blocked.get(message.ordering_key)
        if blocked is None:
            return 0.0
        if blocked.message_id != message.message_id and now < blocked.until:
            return max(blocked.due - now, BACKOFF.seconds(1))
        # It has returned; or it has not for so long that another process has it, or it expired.
        del self._blocked[message.ordering_key]
        return 0.0

    def _hold(self, message: HeldMessage) -> None:
        self._held[message.message_id] = message
        self.size += message.size

    def _drop(self, messages: Iterable[HeldMessage]) -> None:
        for message in messages:
            if self._held.pop(message.message_id, None) is not None:
                self.size -= message.size
