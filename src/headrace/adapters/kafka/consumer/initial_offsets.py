"""Prepares a consumer group in a foreign cluster: finds out whether the cluster answers and has the
topics, and commits where the group begins.

Only requests that a consumer may make anyway are used, so that the rights of a consumer are enough:
describe and read the topics, and read as the group.
"""

import time
from collections.abc import Collection, Sequence

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from headrace.adapters.kafka.errors import (
    call_error,
    is_commit_retriable,
    is_denied,
    is_election,
    is_from_no_member,
    is_missing,
    is_unreachable,
)
from headrace.adapters.kafka.options import KafkaOptions, client_logger
from headrace.domain.errors import Conflict, LogUnavailable, TopicMissing
from headrace.domain.feed import InitialOffset

_METADATA_SECONDS = 1.0


def find_topics(
    options: KafkaOptions, topics: Collection[str], *, seconds: float
) -> dict[str, int]:
    """Return the number of partitions of each topic. Blocks for at most about `seconds`.

    Raises `TopicMissing`, `WriteRefused` for refused credentials or access and for settings that
    the client does not accept, and `LogUnavailable` with the client's reason if no broker answers.
    """
    with _GroupClient(options, "headrace-check", seconds) as client:
        return client.partitions(topics)


def commit_initial_offsets(
    options: KafkaOptions,
    group: str,
    topics: Collection[str],
    initial_offset: InitialOffset,
    *,
    seconds: float,
) -> int:
    """Commit where the group begins in each partition in which it has committed nothing; return the
    number of those partitions. Blocks for at most about `seconds`.

    In a topic in which it has offsets, a partition without one was added since and begins at its
    oldest record. Raises what `find_topics` does, and `Conflict` if the group has members, which
    alone may commit then.
    """
    with _GroupClient(options, group, seconds) as client:
        return client.commit_starts(client.partitions(topics), initial_offset)


class _GroupClient:
    """A client that uses a group without joining it."""

    def __init__(self, options: KafkaOptions, group: str, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds
        self._errors: list[KafkaError] = []
        self._group = group
        settings = options.client(
            group_id=group,
            enable_auto_commit=False,
            allow_auto_create_topics=False,
            error_cb=self._errors.append,
            reconnect_backoff_max_ms=500,
        )
        try:
            self._consumer = Consumer({**settings, "log_level": 0}, logger=client_logger)
        except KafkaException as error:
            raise call_error(error.args[0], "settings") from error

    def __enter__(self) -> "_GroupClient":
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def partitions(self, topics: Collection[str]) -> dict[str, int]:
        found = {}
        for topic in topics:
            while True:
                described = self._describe(topic)
                if described is not None:
                    break
            found[topic] = described
        return found

    def _describe(self, topic: str) -> int | None:
        """Return the number of partitions; None to try again."""
        what = f"topic {topic}"
        try:
            described = self._consumer.list_topics(topic, timeout=_METADATA_SECONDS).topics[topic]
        except KafkaException as error:
            self._raise_refusal(what)
            if not is_unreachable(error.args[0]) or time.monotonic() >= self._deadline:
                raise self._explained(error.args[0], what) from error
            return None
        if described.error is not None and is_missing(described.error):
            raise TopicMissing(topic)
        if described.error is not None:
            if time.monotonic() >= self._deadline or is_denied(described.error):
                raise call_error(described.error, what)
            time.sleep(0.1)
            return None
        return len(described.partitions)

    def _raise_refusal(self, what: str) -> None:
        """The client repeats a refused connection without end, and says why when it is polled."""
        self._consumer.poll(0.05)
        refused = next((each for each in self._errors if is_denied(each)), None)
        if refused is not None:
            raise call_error(refused, what)

    def _explained(self, error: KafkaError, what: str) -> Exception:
        """The reason of the last failed connection says more than "timed out"."""
        reason = next((each for each in reversed(self._errors) if not each.fatal()), error)
        return (
            LogUnavailable(f"{what}: {reason.str()} ({reason.name()})")
            if is_unreachable(error)
            else call_error(error, what)
        )

    def commit_starts(self, topics: dict[str, int], initial_offset: InitialOffset) -> int:
        while True:
            try:
                return self._commit_starts(topics, initial_offset)
            except KafkaException as error:
                what = f"group {self._group}"
                if is_from_no_member(error.args[0]):
                    raise Conflict(f"{what} has members: {error.args[0].str()}") from error
                # The coordinator of a group is moved or loads for a while after a broker started,
                # and the partitions of a new topic have no leader at first.
                passes = is_commit_retriable(error.args[0]) or is_election(error.args[0])
                if not passes or time.monotonic() >= self._deadline:
                    raise call_error(error.args[0], what) from error
            time.sleep(0.1)

    def _commit_starts(self, topics: dict[str, int], initial_offset: InitialOffset) -> int:
        starts = [
            start
            for topic, count in topics.items()
            for start in self._starts(topic, count, initial_offset)
        ]
        if starts:
            answers = self._consumer.commit(offsets=starts, asynchronous=False) or []
            refused = next((each.error for each in answers if each.error is not None), None)
            if refused is not None:
                raise KafkaException(refused)
        return len(starts)

    def _starts(
        self, topic: str, count: int, initial_offset: InitialOffset
    ) -> Sequence[TopicPartition]:
        answers = self._consumer.committed(
            [TopicPartition(topic, number) for number in range(count)], timeout=self._left()
        )
        for each in answers:
            if each.error is not None:
                raise KafkaException(each.error)
        unknown = [each.partition for each in answers if each.offset < 0]
        at_end = initial_offset is InitialOffset.LATEST and len(unknown) == count
        starts = []
        for number in unknown:
            low, high = self._consumer.get_watermark_offsets(
                TopicPartition(topic, number), timeout=self._left()
            )
            starts.append(TopicPartition(topic, number, high if at_end else low))
        return starts

    def _left(self) -> float:
        return max(0.5, self._deadline - time.monotonic())
