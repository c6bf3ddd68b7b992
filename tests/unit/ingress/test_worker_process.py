"""The messages between parent and worker, through pipes."""

import asyncio
import contextlib
import json
import os

from headrace.runtime.health import Health
from headrace_ingress.worker_process import ParentLink
from tests.support.wait_until import wait_until_async


async def test_a_worker_reports_its_state_and_ends_with_its_parent() -> None:
    """The worker writes a line for each change, and ends when the parent's pipe is closed."""
    settings_in, settings_out = os.pipe()
    state_in, state_out = os.pipe()
    os.set_blocking(state_in, False)
    health, ends = Health(), list[str]()
    link = ParentLink(settings_fd=settings_in, state_fd=state_out)
    link.attach(health, ends.append)
    await link.start()
    reported: list[str] = []

    def read_reports() -> bool:
        with contextlib.suppress(BlockingIOError):
            reported.extend(json.loads(line) for line in os.read(state_in, 4096).splitlines())
        return "" in reported

    read_reports()
    assert "still starting" in reported[0]
    health.started()
    await wait_until_async(read_reports, what="it says that it is ready")
    os.close(settings_out)
    await wait_until_async(lambda: ends, what="it ends with its parent")
    await link.stop()
    await link.stop()
    for descriptor in (settings_in, state_in, state_out):
        os.close(descriptor)
    await asyncio.sleep(0)
