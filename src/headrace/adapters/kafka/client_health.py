"""Whether a client still hears a broker. The client itself never says that it does not, so somebody
has to look.

A broker that has just come back, or that its cluster holds for dead, may answer a Metadata request
with topics and no broker. The client then forgets all brokers that it knows, the bootstrap ones
included, and has nobody left to ask (librdkafka issue 5301; seen with 2.16). It calls no callback,
returns no error, and stays like that for ever: a follower whose table grows old, a group member
that never comes back, a producer whose every record times out. Whoever owns a client that lasts
asks a `ClientHealth`, and makes a new one (decision 0011).

Statistics tell most, and cost each client 0.15 MiB of histograms: too much for consumers, of which
a process may have hundreds. Those ask a question themselves when nothing has come for a while. That
nobody answers means something only if others are answered meanwhile.
"""

import contextlib
import json
import threading
from collections.abc import Callable
from typing import Any, Final, Protocol

from confluent_kafka import KafkaException

BROKERLESS_CHECKS_MAX: Final = 2
"""Looks in a row at which a client knows no broker. One is not enough: between forgetting and a new
bootstrap there is a moment.
"""
SILENT_CHECKS_MAX: Final = 24
"""Looks in a row without an answer of any broker: two minutes. An outage of Kafka ends like that
too, where a new client costs little.
"""
UNANSWERED_CHECKS_MAX: Final = 3
"""Looks in a row at which a client's question was not answered, and another client's was."""
_BROKER_SOURCES: Final = frozenset({"configured", "learned"})


class ReferenceClient(Protocol):
    """Another client of the same brokers."""

    @property
    def answered_at(self) -> float:
        """When it was last answered (monotonic seconds), minus infinity for never."""
        ...


class ClientHealth:
    """What looking at one client tells, by its statistics or by asking. `failure` is why the client
    is of no more use, None while it is well.

    Statistics only tell of clients that ask brokers something at least every few looks, as all do
    that refresh their metadata.
    """

    __slots__ = ("_answers", "_brokerless", "_silent", "_silent_since", "failure", "received")

    def __init__(self) -> None:
        self.received = False
        """Set by who got something from a broker since the last look, which then need not be read:
        a look costs 0.1 ms or more.
        """
        self.failure: str | None = None
        self._answers = -1
        self._brokerless = 0
        self._silent = 0
        self._silent_since = 0.0

    def check(
        self, query: Callable[[], object], now: float, reference: ReferenceClient | None
    ) -> None:
        """Look by asking, unless something was heard since the last time. `query` raises
        KafkaException when nobody answers it.
        """
        if self.received:
            self.received = False
            self._silent = 0
            return
        try:
            query()
            self._silent = 0
            return
        except KafkaException:
            if not self._silent:
                self._silent_since = now
            self._silent += 1
        if (
            self._silent >= UNANSWERED_CHECKS_MAX
            and reference is not None
            and reference.answered_at > self._silent_since
        ):
            self.failure = (
                "the client has heard no broker for a while in which another one did, as after one"
                " that is starting named none"
            )
        elif self._silent >= SILENT_CHECKS_MAX:
            self.failure = (
                f"the client has had no answer from any broker to {self._silent} questions"
            )

    def on_statistics(self, statistics: str) -> None:
        """The client's `stats_cb`."""
        if self.received:
            self.received = False
            self._brokerless = self._silent = 0
            return
        parsed: dict[str, Any] = json.loads(statistics)
        known = any(each["source"] in _BROKER_SOURCES for each in parsed["brokers"].values())
        self._brokerless = 0 if known else self._brokerless + 1
        self._silent = self._silent + 1 if parsed["rx"] == self._answers else 0
        self._answers = parsed["rx"]
        if self._brokerless >= BROKERLESS_CHECKS_MAX:
            self.failure = (
                "the client has forgotten every broker, after one that is starting or cut off named"
                " none"
            )
        elif self._silent >= SILENT_CHECKS_MAX:
            self.failure = (
                f"the client has had no answer from any broker since {self._silent} looks at its"
                " statistics"
            )

    def close_client(self, close: Callable[[], object]) -> None:
        """Close the client; one that is lost is not waited for, since it may hope for an answer for
        ever.
        """
        if self.failure is None:
            _quietly(close)
        else:
            threading.Thread(
                target=_quietly, args=(close,), name="close a deaf client", daemon=True
            ).start()


def _quietly(close: Callable[[], object]) -> None:
    with contextlib.suppress(KafkaException, RuntimeError):
        close()
