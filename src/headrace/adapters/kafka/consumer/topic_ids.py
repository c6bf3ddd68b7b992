"""The ids and partitions of topics, which are queried periodically. The id is stored with the
committed offsets.

A topic that was deleted and created again has the same name and different records. The client
continues at the old offset. If the new topic already has more records than that, its first records
would be skipped without notice. Therefore a commit contains the id of its topic.
"""

import math
import threading
import time
from collections.abc import Collection
from contextlib import suppress
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from headrace.adapters.kafka.credentials import ClientAge
from headrace.adapters.kafka.options import KafkaOptions, client_logger

TOPIC_ID_QUERY_SECONDS = 5.0
"""A recreated topic is detected after at most this time and about a second."""
_TIMEOUT_SECONDS = 3.0
_UNSUPPORTED_QUERY_SECONDS = 60.0
"""The interval while there was never an answer: the mock cluster gives none."""
_ID_CHARACTERS_MAX = 64


def add_topic_id(topic_id: str, metadata: str) -> str:
    """Return the commit metadata prefixed with the id of the topic; unchanged when the id is not
    known.
    """
    return f"{topic_id}@{metadata}" if topic_id else metadata


def split_topic_id(metadata: str) -> tuple[str, str]:
    """Undo `add_topic_id`. The id is empty if there is none."""
    head, at, rest = metadata.partition("@")
    return (
        (head, rest)
        if at and len(head) <= _ID_CHARACTERS_MAX and head.isascii() and "|" not in head
        else ("", metadata)
    )


class _Topic(NamedTuple):
    """What the last answer said of a topic."""

    id: str
    partitions: int


class TopicIds:
    """The ids of the topics that a process reads. One thread queries all of them together; the
    feeds read its results.
    """

    def __init__(
        self, options: KafkaOptions, *, every_seconds: float = TOPIC_ID_QUERY_SECONDS
    ) -> None:
        self._options = options
        self._every_seconds = every_seconds
        self._readers: dict[str, int] = {}
        self._known: dict[str, _Topic] = {}
        self._errors: dict[str, KafkaError] = {}
        self._outdated: set[str] = set()
        """Topics that were created again, as it seems, since the query that runs was sent."""
        self._lock = threading.Lock()
        self._wakeup = threading.Event()
        self._closed = False
        self._thread: threading.Thread | None = None
        self.answered_at = -math.inf
        """When a broker last answered (monotonic seconds), as in
        `headrace.adapters.kafka.client_health.ReferenceClient`.
        """

    @property
    def noticed_seconds(self) -> float:
        """How long it takes at most until each process has noticed a change, if brokers answer."""
        return self._every_seconds + _TIMEOUT_SECONDS

    def watch(self, topics: Collection[str]) -> None:
        """Query these from now on, for the first time immediately."""
        with self._lock:
            for topic in topics:
                self._readers[topic] = self._readers.get(topic, 0) + 1
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="topic ids", daemon=True)
                self._thread.start()
        self._wakeup.set()

    def unwatch(self, topics: Collection[str]) -> None:
        """Undo one `watch`."""
        with self._lock:
            for topic in topics:
                self._readers[topic] = self._readers.get(topic, 0) - 1
                if self._readers[topic] <= 0:
                    del self._readers[topic]
                    self._known.pop(topic, None)
                    self._errors.pop(topic, None)

    def forget_id(self, topic: str) -> None:
        """The log of this topic is another one than before: the known id may be that of the topic
        before. It is unknown until a query that is sent from now on is answered.
        """
        with self._lock:
            self._outdated.add(topic)
            if (found := self._known.get(topic)) is not None:
                self._known[topic] = found._replace(id="")

    def known(self, topic: str) -> str:
        """Return the id of the topic with this name from the last answer; empty before the first
        answer.
        """
        found = self._known.get(topic)
        return found.id if found is not None else ""

    def partitions(self, topic: str) -> int:
        """Return the number of partitions of this topic from the last answer; 0 before the first
        answer.
        """
        found = self._known.get(topic)
        return found.partitions if found is not None else 0

    def error(self, topic: str) -> KafkaError | None:
        """Return why the last answer did not describe this topic."""
        return self._errors.get(topic)

    def close(self) -> None:
        """Stop, and wait for the thread as long as an answer may take. Idempotent."""
        self._closed = True
        self._wakeup.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(_TIMEOUT_SECONDS + 1.0)

    def _run(self) -> None:
        client: AdminClient | None = None
        age: ClientAge | None = None
        while not self._closed:
            self._wakeup.clear()
            answered = False
            if age is not None and age.due:
                client = None
            with suppress(KafkaException, TimeoutError):
                if client is None:
                    age = self._options.credentials.age("topic ids")
                    client = AdminClient(
                        {**self._options.client(), "log_level": 0}, logger=client_logger
                    )
                answered = self._query(client)
            if answered:
                self.answered_at = time.monotonic()
            else:
                # The client may have forgotten every broker (`client_health`): the next query uses
                # a new one.
                client = None
            self._wakeup.wait(
                _UNSUPPORTED_QUERY_SECONDS if self.answered_at == -math.inf else self._every_seconds
            )

    def _query(self, client: AdminClient) -> bool:
        """Query the ids; return whether a broker answered. A missing topic keeps its last id: its
        feed reports that it is missing.
        """
        with self._lock:
            topics = list(self._readers)
            self._outdated.clear()
        if not topics:
            return True
        answered = False
        found: dict[str, _Topic] = {}
        errors: dict[str, KafkaError] = {}
        for topic, future in client.describe_topics(
            TopicCollection(topics), request_timeout=_TIMEOUT_SECONDS
        ).items():
            try:
                described = future.result(_TIMEOUT_SECONDS + 1.0)
                found[topic] = _Topic(str(described.topic_id), len(described.partitions))
                answered = True
            except KafkaException as error:
                errors[topic] = error.args[0]
                answered = answered or error.args[0].code() >= 0
        with self._lock:
            for name in self._outdated & found.keys():
                found[name] = found[name]._replace(id="")
            self._known.update({name: found[name] for name in found if name in self._readers})
            self._errors = {name: errors[name] for name in errors if name in self._readers}
        return answered
