"""The health of a client from its statistics and from queries."""

import json
import math
import threading

import pytest
from confluent_kafka import KafkaError, KafkaException

from headrace.adapters.kafka.client_health import (
    SILENT_CHECKS_MAX,
    UNANSWERED_CHECKS_MAX,
    UNANSWERED_COMMIT_CHECKS_MAX,
    ClientHealth,
)

BROKER = {"127.0.0.1:9092/1": {"source": "learned", "state": "UP"}}
BOOTSTRAP = {"127.0.0.1:9092/bootstrap": {"source": "configured", "state": "DOWN"}}
COORDINATOR = {"GroupCoordinator": {"source": "logical", "state": "INIT"}}
"""Not a broker but a role: the client keeps it when it has forgotten who plays it."""


def statistics(answers: int, brokers: dict[str, dict[str, str]]) -> str:
    """As the client writes them, what matters of it."""
    return json.dumps({"rx": answers, "brokers": brokers})


def test_a_client_that_is_answered_is_well() -> None:
    """However often it is looked at."""
    health = ClientHealth()
    for answers in range(10 * SILENT_CHECKS_MAX):
        health.on_statistics(statistics(answers, BROKER))
    assert health.failure is None


@pytest.mark.parametrize("brokers", [{}, COORDINATOR], ids=["none", "only a role"])
def test_a_client_without_brokers_is_lost_at_the_second_look(
    brokers: dict[str, dict[str, str]],
) -> None:
    """The first may fall between forgetting and a new bootstrap."""
    health = ClientHealth()
    health.on_statistics(statistics(7, brokers))
    assert not health.failure
    health.on_statistics(statistics(7, brokers))
    assert "forgotten every broker" in str(health.failure)


def test_a_broker_known_again_ends_the_count() -> None:
    """A bootstrap server that cannot be reached is one to ask too."""
    health = ClientHealth()
    for answers in range(10):
        health.on_statistics(statistics(answers, {}))
        health.on_statistics(statistics(answers, BOOTSTRAP))
    assert health.failure is None


def test_a_client_that_no_broker_answers_is_lost_after_a_while() -> None:
    """Whatever the reason: a new client is the better guess then."""
    health = ClientHealth()
    for _ in range(SILENT_CHECKS_MAX):
        health.on_statistics(statistics(7, BROKER))
    assert not health.failure
    health.on_statistics(statistics(7, BROKER))
    assert "no answer" in str(health.failure)


def test_who_got_a_record_need_not_read_statistics() -> None:
    """A busy consumer does not pay for being looked at."""
    health = ClientHealth()
    health.on_statistics(statistics(7, {}))
    health.received = True
    health.on_statistics("not even JSON")
    health.on_statistics(statistics(7, {}))
    assert health.failure is None


def test_a_lost_client_is_not_waited_for() -> None:
    """Its end may never come; that of a client that is well does."""
    health, order = ClientHealth(), list[str]()
    health.close_client(lambda: order.append("closed"))
    assert ["closed"] == order
    for _ in range(2):
        health.on_statistics(statistics(7, {}))
    never = threading.Event()
    health.close_client(never.wait)
    never.set()


class Other:
    """Another client of the same brokers."""

    answered_at = -math.inf


class Asked:
    """A question that is answered or not, as the test says."""

    def __init__(self) -> None:
        self.answered = True
        self.times = 0

    def __call__(self) -> None:
        self.times += 1
        if not self.answered:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))


def test_a_client_without_answers_while_others_get_them_has_failed() -> None:
    """At the third question, and not before the other one was answered since the first."""
    health, query, other = ClientHealth(), Asked(), Other()
    for now in range(100):
        health.check(query, float(now), other)
    query.answered = False
    other.answered_at = 99.5
    for now in range(100, 100 + 2 * UNANSWERED_CHECKS_MAX):
        health.check(query, float(now), other)
    assert health.failure is None
    other.answered_at = 100.5
    health.check(query, 110.0, other)
    assert "another client did" in str(health.failure)


def test_an_answer_or_a_record_resets_the_count() -> None:
    """A client with answers is healthy, and after a record no query is sent."""
    health, query, other = ClientHealth(), Asked(), Other()
    other.answered_at = math.inf
    for now in range(20):
        query.answered = now % UNANSWERED_CHECKS_MAX == 0
        health.check(query, float(now), other)
    query.answered = False
    health.received = True
    before = query.times
    health.check(query, 20.0, other)
    assert before == query.times
    for now in range(21, 20 + UNANSWERED_CHECKS_MAX):
        health.check(query, float(now), other)
    assert health.failure is None


def test_in_an_outage_a_client_is_kept_for_a_while() -> None:
    """Nobody is answered, or there is nobody else: only after long a new client is the better
    guess.
    """
    health, query = ClientHealth(), Asked()
    query.answered = False
    for now in range(SILENT_CHECKS_MAX - 1):
        health.check(query, float(now), None)
    assert health.failure is None
    health.check(query, float(SILENT_CHECKS_MAX), None)
    assert "no answer" in str(health.failure)


@pytest.mark.parametrize("received", [False, True], ids=["idle", "receives records"])
def test_a_client_whose_commit_is_not_answered_while_others_are_has_failed(
    *, received: bool
) -> None:
    """Also when it receives records, which may come from another broker."""
    health, other = ClientHealth(), Other()
    other.answered_at = 0.5
    health.commit_sent()
    for now in range(1, 1 + 2 * UNANSWERED_COMMIT_CHECKS_MAX):
        health.received = received
        health.check(Asked(), float(now), other)
    assert health.failure is None
    other.answered_at = 1.5
    health.check(Asked(), 20.0, other)
    assert "commit" in str(health.failure)


def test_a_commit_that_is_answered_in_time_resets_the_count() -> None:
    """However late the answers are, and also without commits."""
    health, other = ClientHealth(), Other()
    other.answered_at = math.inf
    for now in range(10 * UNANSWERED_COMMIT_CHECKS_MAX):
        if now % UNANSWERED_COMMIT_CHECKS_MAX == 1:
            health.commit_answered()
        elif now % UNANSWERED_COMMIT_CHECKS_MAX == 2:
            health.commit_sent()
        health.check(Asked(), float(now), other)
    assert health.failure is None
