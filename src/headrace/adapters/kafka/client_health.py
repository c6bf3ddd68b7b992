"""Detects clients that no longer receive answers from any broker. A client never reports this
itself, so its owner has to check.

A broker that has just restarted, or that its cluster considers dead, may answer a Metadata request
with topics and no broker. The client then forgets all brokers that it knows, the bootstrap brokers
included, and has no address left (librdkafka issue 5301; seen with 2.16). It calls no callback,
returns no error, and never recovers: a reader whose table becomes stale, a group member that never
comes back, a producer whose every record times out. The owner of a long-lived client therefore
checks a `ClientHealth` and replaces the client (decision 0011).

Statistics show most, and cost each client 0.15 MiB of histograms: too much for consumers, because a
process may have hundreds. They send a query when nothing was received for a while. A query without
an answer is conclusive only if another client gets answers meanwhile.

A consumer can also get answers to everything but its commits: seen with librdkafka 2.16 after Kafka
was killed and came back at the end of the session timeout, in six members of a group at once, until
they were closed. So a commit without an answer counts too.
"""

import contextlib
import json
import threading
from collections.abc import Callable
from typing import Any, Final, Protocol

from confluent_kafka import KafkaException

BROKERLESS_CHECKS_MAX: Final = 2
"""Consecutive checks at which a client knows no broker. One is not enough: between losing the
brokers and a new bootstrap there is a short gap.
"""
SILENT_CHECKS_MAX: Final = 24
"""Consecutive checks without an answer of any broker: two minutes. An outage of Kafka reaches this
limit too; a new client costs little then.
"""
UNANSWERED_CHECKS_MAX: Final = 3
"""Consecutive checks at which a client's query was not answered, but another client's was."""
UNANSWERED_COMMIT_CHECKS_MAX: Final = 4
"""Consecutive checks at which the same commit was not answered. More than the queries, because a
coordinator may move to another broker meanwhile.
"""
_BROKER_SOURCES: Final = frozenset({"configured", "learned"})


class ReferenceClient(Protocol):
    """Another client of the same brokers."""

    @property
    def answered_at(self) -> float:
        """When it was last answered (monotonic seconds), minus infinity for never."""
        ...


class ClientHealth:
    """The health of one client, from its statistics or from queries. `failure` is the reason why
    the client must be replaced, None while it is healthy.

    Statistics are conclusive only for clients that send a request at least every few checks. All
    clients that refresh their metadata do.
    """

    __slots__ = (
        "_answers",
        "_brokerless",
        "_commit_pending",
        "_commit_since",
        "_commit_unanswered",
        "_silent",
        "_silent_since",
        "failure",
        "received",
    )

    def __init__(self) -> None:
        self.received = False
        """Set by the owner when something was received from a broker since the last check. The next
        check is then skipped, because a check costs 0.1 ms or more.
        """
        self.failure: str | None = None
        self._answers = -1
        self._brokerless = 0
        self._silent = 0
        self._silent_since = 0.0
        self._commit_pending = False
        self._commit_unanswered = 0
        self._commit_since = 0.0

    def commit_sent(self) -> None:
        """Expect an answer to a commit."""
        self._commit_pending = True

    def commit_answered(self) -> None:
        """Note an answer to a commit, which may be a refusal."""
        self._commit_pending = False
        self._commit_unanswered = 0

    def check(
        self, query: Callable[[], object], now: float, reference: ReferenceClient | None
    ) -> None:
        """Check with a query, unless something was received since the last check. `query` raises
        KafkaException when no broker answers.
        """
        self._check_commit(now, reference)
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
        if self._silent >= UNANSWERED_CHECKS_MAX and _was_answered(reference, self._silent_since):
            self.failure = (
                "the client got no answer from any broker while another client did; it may have"
                " forgotten its brokers"
            )
        elif self._silent >= SILENT_CHECKS_MAX:
            self.failure = f"the client got no answer from any broker to {self._silent} queries"

    def _check_commit(self, now: float, reference: ReferenceClient | None) -> None:
        if not self._commit_pending:
            return
        if not self._commit_unanswered:
            self._commit_since = now
        self._commit_unanswered += 1
        if self._commit_unanswered >= UNANSWERED_COMMIT_CHECKS_MAX and _was_answered(
            reference, self._commit_since
        ):
            self.failure = (
                "the client got no answer to a commit of offsets while another client was answered"
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
                "the client has forgotten every broker, after a broker that is starting or cut off"
                " listed none"
            )
        elif self._silent >= SILENT_CHECKS_MAX:
            self.failure = (
                f"the client got no answer from any broker in {self._silent} checks of its"
                " statistics"
            )

    def close_client(self, close: Callable[[], object]) -> None:
        """Close the client. A failed client is closed in the background, because it may wait for an
        answer forever.
        """
        if self.failure is None:
            _quietly(close)
        else:
            threading.Thread(
                target=_quietly, args=(close,), name="close a failed client", daemon=True
            ).start()


def _was_answered(reference: ReferenceClient | None, since: float) -> bool:
    return reference is not None and reference.answered_at > since


def _quietly(close: Callable[[], object]) -> None:
    with contextlib.suppress(KafkaException, RuntimeError):
        close()
