"""The compose project, which all tests here share."""

from collections.abc import Iterator

import pytest

from tests.compose.stack import UP_SECONDS, Stack

PROFILES = ("--profile", "demo")


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """The whole project with its demo, healthy, with the quickstart applied; removed with its
    volumes afterwards.
    """
    running = Stack()
    try:
        running.compose(*PROFILES, "up", "--build", "--detach", "--wait", timeout=UP_SECONDS)
        running.compose("run", "--rm", "--no-TTY", "headrace", "apply", "-f", "/examples", "--wait")
        yield running
    finally:
        running.compose(*PROFILES, "--profile", "tools", "down", "--volumes", "--remove-orphans")
