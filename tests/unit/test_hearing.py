"""What a client's statistics, and answers to its questions, tell of whom it hears."""

import json
import math
import threading

import pytest
from confluent_kafka import KafkaError, KafkaException

from headrace.adapters.kafka.hearing import DEAF_LOOKS, UNANSWERED_LOOKS, Hearing

BROKER = {"127.0.0.1:9092/1": {"source": "learned", "state": "UP"}}
BOOTSTRAP = {"127.0.0.1:9092/bootstrap": {"source": "configured", "state": "DOWN"}}
COORDINATOR = {"GroupCoordinator": {"source": "logical", "state": "INIT"}}
"""Not a broker but a role: the client keeps it when it has forgotten who plays it."""


def statistics(answers: int, brokers: dict[str, dict[str, str]]) -> str:
    """As the client writes them, what matters of it."""
    return json.dumps({"rx": answers, "brokers": brokers})


def test_a_client_that_is_answered_is_well() -> None:
    """However often it is looked at."""
    hearing = Hearing()
    for answers in range(10 * DEAF_LOOKS):
        hearing.look(statistics(answers, BROKER))
    assert hearing.lost is None


@pytest.mark.parametrize("brokers", [{}, COORDINATOR], ids=["none", "only a role"])
def test_a_client_without_brokers_is_lost_at_the_second_look(
    brokers: dict[str, dict[str, str]],
) -> None:
    """The first may fall between forgetting and a new bootstrap."""
    hearing = Hearing()
    hearing.look(statistics(7, brokers))
    assert not hearing.lost
    hearing.look(statistics(7, brokers))
    assert "forgotten every broker" in str(hearing.lost)


def test_a_broker_known_again_ends_the_count() -> None:
    """A bootstrap server that cannot be reached is one to ask too."""
    hearing = Hearing()
    for answers in range(10):
        hearing.look(statistics(answers, {}))
        hearing.look(statistics(answers, BOOTSTRAP))
    assert hearing.lost is None


def test_a_client_that_no_broker_answers_is_lost_after_a_while() -> None:
    """Whatever the reason: a new client is the better guess then."""
    hearing = Hearing()
    for _ in range(DEAF_LOOKS):
        hearing.look(statistics(7, BROKER))
    assert not hearing.lost
    hearing.look(statistics(7, BROKER))
    assert "no answer" in str(hearing.lost)


def test_who_got_a_record_need_not_read_statistics() -> None:
    """A busy consumer does not pay for being looked at."""
    hearing = Hearing()
    hearing.look(statistics(7, {}))
    hearing.heard = True
    hearing.look("not even JSON")
    hearing.look(statistics(7, {}))
    assert hearing.lost is None


def test_a_lost_client_is_not_waited_for() -> None:
    """Its end may never come; that of a client that is well does."""
    hearing, order = Hearing(), list[str]()
    hearing.part(lambda: order.append("closed"))
    assert ["closed"] == order
    for _ in range(2):
        hearing.look(statistics(7, {}))
    never = threading.Event()
    hearing.part(never.wait)
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


def test_a_client_that_nobody_answers_while_others_are_is_lost() -> None:
    """At the third question, and not before the other one was answered since the first."""
    hearing, question, other = Hearing(), Asked(), Other()
    for now in range(100):
        hearing.ask(question, float(now), other)
    question.answered = False
    other.answered_at = 99.5
    for now in range(100, 100 + 2 * UNANSWERED_LOOKS):
        hearing.ask(question, float(now), other)
    assert hearing.lost is None
    other.answered_at = 100.5
    hearing.ask(question, 110.0, other)
    assert "another one did" in str(hearing.lost)


def test_an_answer_or_a_record_begins_the_count_anew() -> None:
    """Whoever hears is well, and one who got a record is not even asked."""
    hearing, question, other = Hearing(), Asked(), Other()
    other.answered_at = math.inf
    for now in range(20):
        question.answered = now % UNANSWERED_LOOKS == 0
        hearing.ask(question, float(now), other)
    question.answered = False
    hearing.heard = True
    before = question.times
    hearing.ask(question, 20.0, other)
    assert before == question.times
    for now in range(21, 20 + UNANSWERED_LOOKS):
        hearing.ask(question, float(now), other)
    assert hearing.lost is None


def test_in_an_outage_a_client_is_kept_for_a_while() -> None:
    """Nobody is answered, or there is nobody else: only after long a new client is the better
    guess.
    """
    hearing, question = Hearing(), Asked()
    question.answered = False
    for now in range(DEAF_LOOKS - 1):
        hearing.ask(question, float(now), None)
    assert hearing.lost is None
    hearing.ask(question, float(DEAF_LOOKS), None)
    assert "no answer" in str(hearing.lost)
