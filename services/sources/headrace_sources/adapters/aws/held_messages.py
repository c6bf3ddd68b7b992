"""The messages of a queue that this process has read and not finished: in which order they are
sent, and until when the queue hides them from other readers.

Pure: no requests, no waiting, no clock.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace_sources.adapters.aws.messages import group_of


@dataclass(slots=True)
class HeldMessage:
    """One message that was read."""

    content: Mapping[str, Any]
    """As the API has it."""
    lane: str
    """Messages of one lane are sent one after the other: the message group, or else the message."""
    receipt: str
    """Of the newest delivery; an older one does not delete a message of a FIFO queue."""
    hidden_until: float
    """Monotonic."""
    delivered: bool = False
    """Whether the sink has taken its event."""

    @property
    def id(self) -> str:
        """The message id."""
        return str(self.content["MessageId"])

    @property
    def size(self) -> int:
        """Bytes of its body, about."""
        return len(self.content.get("Body") or "")


class HeldMessages:
    """All of them, by lane in the order in which they were read."""

    def __init__(self) -> None:
        self._by_id: dict[str, HeldMessage] = {}
        self._lanes: dict[str, deque[HeldMessage]] = {}
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, message: HeldMessage) -> bool:
        return self._by_id.get(message.id) is message

    def __iter__(self) -> Iterator[HeldMessage]:
        return iter(self._by_id.values())

    def add(self, content: Mapping[str, Any], hidden_until: float) -> str | None:
        """Take a message that was read. Return its lane if that had none, None otherwise.

        A message that is here already was not hidden for long enough and was delivered again: its
        newer receipt is what deletes it.
        """
        id, receipt = str(content["MessageId"]), str(content["ReceiptHandle"])
        present = self._by_id.get(id)
        if present is not None:
            present.receipt, present.hidden_until = receipt, hidden_until
            return None
        group = group_of(content)
        lane = f"group {group}" if group is not None else f"message {id}"
        message = HeldMessage(content, lane, receipt, hidden_until)
        self._by_id[id] = message
        self.bytes += message.size
        waiting = self._lanes.get(lane)
        if waiting is not None:
            waiting.append(message)
            return None
        self._lanes[lane] = deque((message,))
        return lane

    def first(self, lane: str) -> HeldMessage | None:
        """The message of a lane that is sent next; None at its end."""
        waiting = self._lanes.get(lane)
        return waiting[0] if waiting else None

    def remove_first(self, lane: str) -> None:
        """The first message of a lane is finished."""
        self._forget(self._lanes[lane].popleft())
        if not self._lanes[lane]:
            del self._lanes[lane]

    def remove_lane(self, lane: str) -> Sequence[HeldMessage]:
        """The first message of a lane was not delivered: those behind it must not overtake it.
        Return all of them, which are left to the queue; it delivers them again in order.
        """
        removed = list(self._lanes.pop(lane, ()))
        for message in removed:
            self._forget(message)
        return removed

    def visible_before(self, before: float) -> Sequence[HeldMessage]:
        """The messages that become visible to others before that time."""
        return [each for each in self if each.hidden_until < before]

    def _forget(self, message: HeldMessage) -> None:
        del self._by_id[message.id]
        self.bytes -= message.size
