"""What a client's statistics tell of whom it hears."""

import json
import threading

import pytest

from headrace.adapters.kafka.hearing import DEAF_LOOKS, Hearing

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
def test_a_client_without_brokers_is_lost_at_the_second_look(brokers: dict[str, dict[str, str]]) -> None:
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
