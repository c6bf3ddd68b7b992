"""When a consumer is replaced: after a pause if it failed, at once if it was renewed."""

import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from headrace.adapters.kafka.consumer import consumer_thread
from headrace.adapters.kafka.consumer.alarms import ConsumerAlarm, ConsumerFailed
from headrace.adapters.kafka.consumer.consumer_thread import ConsumerThread
from headrace.adapters.kafka.options import KafkaOptions
from headrace.domain.feed import AlarmKind

CONFIG = SimpleNamespace(
    group="group", topics=("topic",), options=KafkaOptions(bootstrap_servers="127.0.0.1:1")
)


class _FailingPollLoop:
    """Its consumer fails at once."""

    def __init__(self, *_: object) -> None:
        """As PollLoop."""

    def run(self, _: object) -> None:
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

    channel = SimpleNamespace(stopping=False, clear=lambda: None, call_on_loop=call_on_loop)
    assignment = SimpleNamespace(
        config=CONFIG,
        channel=channel,
        flow=SimpleNamespace(wake=threading.Event()),
        raise_alarm=raise_alarm,
    )
    ConsumerThread(cast(Any, assignment), dict, lambda: None).run()
    assert alarms == ["it failed; a new consumer is created in 0.2 s"]


def test_a_renewed_consumer_is_followed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """And gets no commands of its predecessor."""
    settings: list[object] = []

    class RenewedPollLoop:
        """It ends without a failure, and the second time because the feed stops."""

        def __init__(self, _: object, given: object) -> None:
            settings.append(given)
            assert list(channel.commands) == []

        def run(self, _: object) -> None:
            """End."""
            channel.commands.append("a commit")
            channel.stopping = len(settings) == 2

    monkeypatch.setattr(consumer_thread, "PollLoop", RenewedPollLoop)
    calls: list[object] = []

    def call_on_loop(function: Callable[..., object], *arguments: object) -> None:
        calls.append((function, arguments))

    commands: list[str] = []
    channel = SimpleNamespace(
        stopping=False, commands=commands, clear=commands.clear, call_on_loop=call_on_loop
    )
    assignment = SimpleNamespace(config=CONFIG, channel=channel)
    versions: Iterator[dict[str, object]] = iter([{"version": 1}, {"version": 2}])

    def ended() -> None: ...

    ConsumerThread(cast(Any, assignment), lambda: next(versions), ended).run()
    assert settings == [{"version": 1}, {"version": 2}]
    assert calls == [(ended, ())]
