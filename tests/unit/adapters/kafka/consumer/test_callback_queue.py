"""The inbox between consumer threads and the loop: order within a feed, turns between feeds, one
wake-up for many.
"""

import asyncio
import threading
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from headrace.adapters.kafka.consumer.callback_queue import CallbackQueues
from tests.support.wait_until import wait_until_async

THREADS, EACH = 8, 500


async def test_callbacks_of_many_threads_arrive_complete_and_in_order() -> None:
    """Nothing is lost or called twice, and the order of each thread is kept, however they race with
    the loop.
    """
    queues, called = CallbackQueues(), dict[int, list[int]]()

    def call_each(number: int) -> None:
        queue = queues.queue(loop)
        for each in range(EACH):
            queue.call_soon(called[number].append, each)

    loop = asyncio.get_running_loop()
    for number in range(THREADS):
        called[number] = []
        threading.Thread(target=call_each, args=(number,)).start()
    await wait_until_async(
        lambda: sum(map(len, called.values())) >= THREADS * EACH, timeout=20.0, what="all is heard"
    )
    assert {number: list(range(EACH)) for number in range(THREADS)} == called


async def test_feeds_take_turns() -> None:
    """A feed with many callbacks does not delay a later callback of another feed."""
    queues, called = CallbackQueues(now=lambda: 0.0), list[str]()
    busy, fresh = (queues.queue(asyncio.get_running_loop()) for _ in range(2))
    for _ in range(3):
        busy.call_soon(called.append, "busy")
    fresh.call_soon(called.append, "fresh")
    await wait_until_async(lambda: len(called) == 4, what="all is heard")
    assert ["busy", "fresh", "busy", "busy"] == called


async def test_the_loop_looks_elsewhere_after_a_millisecond() -> None:
    """Long callbacks run one by one, with other work of the loop in between."""
    queues, called = CallbackQueues(now=count(0.0, 0.01).__next__), list[str]()
    loop = asyncio.get_running_loop()
    queue = queues.queue(loop)

    def hand_over() -> None:
        called.append("records")
        loop.call_soon(called.append, "socket")

    for _ in range(3):
        queue.call_soon(hand_over)
    await wait_until_async(lambda: len(called) == 6, what="all is heard")
    assert ["records", "socket"] * 3 == called


async def test_one_wake_up_serves_many_threads() -> None:
    """The loop is called once, however many feeds add callbacks before it runs."""
    queues, called, loop = CallbackQueues(), list[int](), asyncio.get_running_loop()
    wakes: list[object] = []
    real = loop.call_soon_threadsafe

    def counted(wake: Callable[..., object], *arguments: object, **more: Any) -> asyncio.Handle:
        wakes.append(wake)
        return real(wake, *arguments, **more)

    loop.call_soon_threadsafe = counted  # type: ignore[assignment]
    for number in range(100):
        queues.queue(loop).call_soon(called.append, number)
    await wait_until_async(lambda: len(called) == 100, what="all is heard")
    assert len(wakes) == 1


async def test_a_listener_that_fails_stops_nobody_else() -> None:
    """What it raises goes where the loop's own callbacks' errors go."""
    queues, called, failed = CallbackQueues(), list[str](), list[object]()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: failed.append(context["exception"]))
    queue = queues.queue(loop)
    error = ValueError("no")

    def fail() -> None:
        raise error

    queue.call_soon(fail)
    queue.call_soon(called.append, "after")
    await wait_until_async(lambda: called == ["after"], what="the next is heard")
    assert [error] == failed


def test_a_closed_loop_is_noticed() -> None:
    """A thread whose loop is closed must stop reading."""
    loop = asyncio.new_event_loop()
    queue = CallbackQueues().queue(loop)
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        queue.call_soon(print)
