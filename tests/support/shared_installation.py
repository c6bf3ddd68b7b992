"""One installation that several files of tests use one after the other.

`tests/support/xdist_scheduling.py` lists these files and lets all their tests of one place run in
one process. `tests/integration/conftest.py` has the fixture.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import pytest

from tests.support.xdist_scheduling import uses_shared_installation

if TYPE_CHECKING:
    from tests.support.headrace_under_test import HeadraceUnderTest


class SharedInstallation:
    """At most one at a time, of one place."""

    def __init__(self) -> None:
        self._where = ""
        self._started: HeadraceUnderTest | None = None
        self._stack = contextlib.ExitStack()

    @contextlib.contextmanager
    def use(
        self, where: str, start: Callable[[], AbstractContextManager["HeadraceUnderTest"]]
    ) -> Iterator["HeadraceUnderTest"]:
        """The installation of a place, for one file of tests: all its processes run, no sink was
        used, and afterwards what the file has applied is deleted.
        """
        if self._started is None or self._where != where:
            self.close()
            self._where, self._started = where, self._stack.enter_context(start())
        self._started.revive()
        self._started.sinks.forget()
        yield self._started
        self._started.delete_applied()

    def close(self) -> None:
        """End its processes. Idempotent."""
        self._started = None
        self._stack.close()


SHARED = SharedInstallation()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """End the shared installation before a test that does not use it: another one may use the same
    API server.
    """
    if not uses_shared_installation(item.nodeid):
        SHARED.close()


def pytest_sessionfinish() -> None:
    """Its processes end with those of the tests."""
    SHARED.close()
