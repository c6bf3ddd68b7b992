"""What parent and worker tell each other, over pipes."""

import asyncio
import contextlib
import json
import os

from headrace.runtime.health import Health
from headrace_ingress.worker import ParentLink
from tests.support.wait_until import wait_until_async


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
