"""Addresses are read from `bootstrap.servers` as the client library does, and the coordinators of
groups are remembered.
"""

from typing import cast

import pytest

from headrace.adapters.kafka.group_offsets import coordinators
from headrace.adapters.kafka.group_offsets.connection import BrokerConnections
from headrace.adapters.kafka.group_offsets.coordinators import Coordinators, bootstrap_addresses
from headrace.adapters.kafka.group_offsets.requests import FIND_COORDINATOR, Address
from tests.unit.adapters.kafka.group_offsets.test_group_backlogs import Cluster


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


async def test_the_oldest_groups_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Subscriptions come and go as long as a process runs. A group that is still in use is looked
    for again.
    """
    monkeypatch.setattr(coordinators, "_KNOWN_MAX", 2)
    cluster = Cluster()
    found = Coordinators(cast(BrokerConnections, cluster), "kafka:1")
    for lookups, group in ((1, "a"), (2, "b"), (3, "c"), (3, "b"), (4, "a")):
        assert Address("kafka", 3) == await found.find(group)
        assert lookups == cluster.sent(FIND_COORDINATOR).total()
    await found.close()
