"""What parent and worker tell each other, over pipes."""

import asyncio
import contextlib
import json
import os

import pytest

from headrace.runtime.health import Health
from headrace.runtime.settings import KafkaSettings, LogSettings
from headrace_ingress.settings import IngressSettings
from headrace_ingress.worker import Orders, ParentLink, read_orders
from tests.support.waiting import wait_until_async


def test_orders_come_through_a_pipe_as_they_were_given() -> None:
    """Every setting survives, paths and enums included, and nothing behind the line is read."""
    orders = Orders(IngressSettings(port=1234, workers=3, compression="lz4"), KafkaSettings(bootstrap_servers="a:1"), LogSettings())
    ours, theirs = os.pipe()
    os.write(theirs, orders.write() + b"rest")
    assert orders == read_orders(ours)
    assert b"rest" == os.read(ours, 10)
    os.close(ours)
    os.close(theirs)


def test_a_worker_whose_parent_is_gone_before_it_speaks_says_so() -> None:
    """An empty pipe is an error, not an endless wait."""
    ours, theirs = os.pipe()
    os.close(theirs)
    with pytest.raises(EOFError):
        read_orders(ours)
    os.close(ours)


async def test_a_worker_tells_its_state_and_ends_with_its_parent() -> None:
    """A line for each change; the end of the parent's pipe is the end."""
    orders_in, orders_out = os.pipe()
    state_in, state_out = os.pipe()
    os.set_blocking(state_in, False)
    health, ends = Health(), list[str]()
    link = ParentLink(orders=orders_in, state=state_out)
    link.attach(health, ends.append)
    await link.start()
    said: list[str] = []

    def hear() -> bool:
        with contextlib.suppress(BlockingIOError):
            said.extend(json.loads(line) for line in os.read(state_in, 4096).splitlines())
        return "" in said

    hear()
    assert "still starting" in said[0]
    health.started()
    await wait_until_async(hear, what="it says that it is ready")
    os.close(orders_out)
    await wait_until_async(lambda: ends, what="it ends with its parent")
    await link.stop()
    await link.stop()
    for descriptor in (orders_in, state_in, state_out):
        os.close(descriptor)
    await asyncio.sleep(0)
