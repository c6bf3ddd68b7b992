"""Names of streams and durable consumers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.adapters.nats.names import durable_name, stream_name, subject
from headrace.domain.errors import WriteRefused

NAMES = st.text(st.characters(exclude_characters=":"), min_size=1, max_size=20)


def test_dots_become_underscores() -> None:
    """The names stay readable."""
    assert "headrace_delay_10s" == stream_name("jetstream:headrace.delay.10s")
    assert "headrace.headrace_delay_10s" == subject("jetstream:headrace.delay.10s")
    assert "ns_orders_5f-retry" == durable_name("jetstream:ns.orders.5f-retry")


@given(NAMES, NAMES)
def test_different_names_stay_different(one: str, other: str) -> None:
    """And have no character that JetStream refuses."""
    streams = stream_name(f"jetstream:{one}"), stream_name(f"jetstream:{other}")
    assert (one == other) == (streams[0] == streams[1])
    assert not set(" \t\r\n.*>/\\") & set(streams[0])


@pytest.mark.parametrize("name", ["orders", "kafka:orders", "jetstream:"])
def test_names_of_other_backends_are_refused(name: str) -> None:
    """The message names the prefix."""
    with pytest.raises(WriteRefused, match="must begin with jetstream:"):
        stream_name(name)


def test_a_name_that_is_too_long_is_refused() -> None:
    """With its length and the limit."""
    with pytest.raises(WriteRefused, match=r"256 characters in JetStream, the limit is 255"):
        durable_name("jetstream:" + "x" * 256)
