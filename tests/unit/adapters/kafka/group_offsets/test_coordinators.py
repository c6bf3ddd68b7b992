"""Addresses are read from `bootstrap.servers` as the client library does."""

import pytest

from headrace.adapters.kafka.group_offsets.coordinators import bootstrap_addresses
from headrace.adapters.kafka.group_offsets.requests import Address


@pytest.mark.parametrize(
    ("servers", "addresses"),
    [
        ("127.0.0.1:9092", [("127.0.0.1", 9092)]),
        ("a.example:1, b.example:2,", [("a.example", 1), ("b.example", 2)]),
        ("kafka", [("kafka", 9092)]),
        ("[::1]:19092,[fe80::1]", [("::1", 19092), ("fe80::1", 9092)]),
        ("SASL_SSL://kafka:9093,PLAINTEXT://kafka", [("kafka", 9093), ("kafka", 9092)]),
    ],
)
def test_each_form(servers: str, addresses: list[tuple[str, int]]) -> None:
    """Host and port of each."""
    assert addresses == bootstrap_addresses(servers)


def test_an_address_is_written_as_it_is_read() -> None:
    """Those of IPv6 in brackets."""
    for text in ("127.0.0.1:9092", "[::1]:9092"):
        assert [text] == [str(each) for each in bootstrap_addresses(text)]
    assert "kafka:1" == str(Address("kafka", 1))
