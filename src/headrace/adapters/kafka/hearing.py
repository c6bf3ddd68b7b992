"""Whether a client still hears a broker. The client itself never says that it does not, so its statistics are read.

A broker that has just come back, or that its cluster holds for dead, may answer a Metadata request with topics and no broker. The client
then forgets all brokers that it knows, the bootstrap ones included, and has nobody left to ask (librdkafka issue 5301; seen with 2.16).
It calls no callback, returns no error, and stays like that for ever: a follower whose table grows old, a group member that never comes
back, a producer whose every record times out. Whoever owns a client that lasts asks a `Hearing`, and makes a new one (decision 0011).
"""

import contextlib
import json
import threading
from collections.abc import Callable
from typing import Any, Final

from confluent_kafka import KafkaException

FORGOTTEN_LOOKS: Final = 2
"""Looks in a row at which a client knows no broker. One is not enough: between forgetting and a new bootstrap there is a moment."""
DEAF_LOOKS: Final = 24
"""Looks in a row without an answer of any broker: two minutes. An outage of Kafka ends like that too, where a new client costs little."""
_REAL_SOURCES: Final = frozenset({"configured", "learned"})


class Hearing:
    """What one client's statistics tell. `lost` is why the client is of no more use, None while it is well.

    Only for clients that ask brokers something at least every few looks, as all do that refresh their metadata.
    """

    __slots__ = ("_answers", "_brokerless", "_silent", "heard", "lost")

    def __init__(self) -> None:
        self.heard = False
        """Set by who got something from a broker since the last look, which then need not be read: a look costs 0.1 ms or more."""
        self.lost: str | None = None
        self._answers = -1
        self._brokerless = 0
        self._silent = 0

    def look(self, statistics: str) -> None:
        """The client's `stats_cb`."""
        if self.heard:
            self.heard = False
            self._brokerless = self._silent = 0
            return
        told: dict[str, Any] = json.loads(statistics)
        known = any(each["source"] in _REAL_SOURCES for each in told["brokers"].values())
        self._brokerless = 0 if known else self._brokerless + 1
        self._silent = self._silent + 1 if told["rx"] == self._answers else 0
        self._answers = told["rx"]
        if self._brokerless >= FORGOTTEN_LOOKS:
            self.lost = "the client has forgotten every broker, after one that is starting or cut off named none"
        elif self._silent >= DEAF_LOOKS:
            self.lost = f"the client has had no answer from any broker since {self._silent} looks at its statistics"

    def part(self, close: Callable[[], object]) -> None:
        """Close the client; one that is lost is not waited for, since it may hope for an answer for ever."""
        if self.lost is None:
            _quietly(close)
        else:
            threading.Thread(target=_quietly, args=(close,), name="close a deaf client", daemon=True).start()


def _quietly(close: Callable[[], object]) -> None:
    with contextlib.suppress(KafkaException, RuntimeError):
        close()
