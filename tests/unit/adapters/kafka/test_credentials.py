"""Which clients are replaced after credentials were renewed, and when."""

import gc
import time

import pytest

from headrace.adapters.kafka.credentials import ClientCredentials
from headrace.adapters.kafka.options import KafkaOptions


def test_clients_are_created_with_the_present_settings() -> None:
    """Those of all clients, then those of the credentials."""
    options = KafkaOptions(bootstrap_servers="a:1", credentials=ClientCredentials({"a": "old"}))
    assert "old" == options.client()["a"]
    options.credentials.renew({"a": "new"})
    assert "new" == options.client()["a"]
    assert "new" not in repr(options)


def test_clients_are_replaced_within_the_time_but_not_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each at its own moment, the same one each time."""
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    shared = ClientCredentials(spread_seconds=30.0)
    ages = [shared.age(f"group {number}") for number in range(200)]
    assert not any(each.due for each in ages)
    assert 200 == shared.renew({})
    assert all(each.outdated for each in ages)

    def due(now: float) -> int:
        clock[0] = now
        return sum(each.due for each in ages)

    assert due(100.0) <= 2
    assert 40 <= due(110.0) <= 95
    assert 105 <= due(120.0) <= 160
    assert 200 == due(130.0)
    again = ClientCredentials(spread_seconds=30.0)
    same = [again.age(f"group {number}") for number in range(200)]
    clock[0] = 200.0
    again.renew({})
    clock[0] = 210.0
    assert [each.due for each in same] == [each._delay * 30.0 <= 10.0 for each in ages]


def test_only_clients_that_exist_are_counted() -> None:
    """A client that was closed needs no replacement."""
    shared = ClientCredentials()
    kept, dropped = shared.age("kept"), shared.age("dropped")
    assert 2 == shared.clients
    del dropped
    gc.collect()
    assert 1 == shared.renew({})
    assert kept.outdated
    assert not shared.age("new").outdated
