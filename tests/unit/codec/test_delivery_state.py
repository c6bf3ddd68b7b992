"""Private headers: written state can be read, and values that Headrace cannot write are refused."""

from dataclasses import replace

import pytest

from headrace.codec import delivery_state
from headrace.codec.delivery_state import DeliveryState, InvalidDeliveryState
from tests.support.event_builders import record_headers

STATE = DeliveryState(
    subscription="uid",
    origin="channel/0/7",
    attempt=3,
    first_failure_ms=5,
    dead_topic="dead",
    due_ms=9,
    reason="r",
    reply=b"{}",
)


def test_a_state_comes_back_as_it_was_written() -> None:
    """The latest state is read, however often the event was retried.

    The event's own headers are unchanged.
    """
    headers = delivery_state.write(
        delivery_state.write(record_headers(), replace(STATE, attempt=1)), STATE
    )
    assert STATE == delivery_state.read(headers)
    assert record_headers() == [
        header for header in headers if not header[0].startswith(delivery_state.PREFIX)
    ]


@pytest.mark.parametrize("value", [b"", b"\xff", b"a\0b", b"a\nb"])
@pytest.mark.parametrize("name", ["headrace_subscription", "headrace_origin", "headrace_dead"])
def test_a_text_that_cannot_be_ours_is_refused(name: str, value: bytes) -> None:
    """An example is a topic name with a null character, which Kafka clients reject."""
    headers = [
        *(header for header in delivery_state.write(record_headers(), STATE) if header[0] != name),
        (name, value),
    ]
    with pytest.raises(InvalidDeliveryState, match=name):
        delivery_state.read(headers)


@pytest.mark.parametrize("value", [b"", b"-1", b"x", b"1" * 19, "²".encode()])
@pytest.mark.parametrize("name", ["headrace_attempt", "headrace_first_failure", "headrace_due"])
def test_a_number_that_cannot_be_ours_is_refused(name: str, value: bytes) -> None:
    """Only ASCII digits are accepted, up to a maximum number of them."""
    headers = [
        *(header for header in delivery_state.write(record_headers(), STATE) if header[0] != name),
        (name, value),
    ]
    with pytest.raises(InvalidDeliveryState, match=name):
        delivery_state.read(headers)
