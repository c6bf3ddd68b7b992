"""The pause before a consumer that failed is replaced."""

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from headrace.adapters.kafka.consumer import consumer_thread
from headrace.adapters.kafka.consumer.alarms import ConsumerAlarm
from headrace.adapters.kafka.consumer.consumer_thread import ConsumerThread
from headrace.adapters.kafka.consumer.poll_loop import ConsumerFailed
from headrace.domain.feed import AlarmKind


class _FailingPollLoop:
    """Its consumer fails at once."""

    def __init__(self, *_: object) -> None:
        """As PollLoop."""

    def run(self) -> None:
        """Fail."""
        raise ConsumerFailed(ConsumerAlarm(AlarmKind.REBUILT, "it failed", fatal=True))


def test_the_first_failure_is_followed_by_the_shortest_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also when no consumer has been healthy before."""
    monkeypatch.setattr(consumer_thread, "PollLoop", _FailingPollLoop)
    alarms: list[str] = []

    def raise_alarm(_kind: AlarmKind, detail: str) -> None:
        alarms.append(detail)
        channel.stopping = True

    def call_on_loop(function: Callable[..., object], *arguments: object) -> None:
        function(*arguments)

    channel = SimpleNamespace(stopping=False, commands=[], call_on_loop=call_on_loop)
    assignment = SimpleNamespace(
        config=SimpleNamespace(group="group"),
        channel=channel,
        flow=SimpleNamespace(wake=threading.Event()),
        on_partitions_lost=lambda _: None,
        raise_alarm=raise_alarm,
    )
    ConsumerThread(cast(Any, assignment), {}, lambda: None).run()
    assert alarms == ["it failed; a new consumer is created in 0.2 s"]
