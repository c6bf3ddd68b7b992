"""How long the caller of a judgement may wait for it: the controller's loop hardly at all, a thread
until the bounds of the rules.

The rules of an object may take half a second of processor time, and processes that are waited for.
On the loop that would stop probes, watches and the renewal of the lease. So a judgement on the loop
ends with `LoopBudgetExceeded` where it would begin to wait, and is made again in a thread
(`admission_pool`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

LOOP_SECONDS = 0.05
"""Processor time that the rules of one object may take on the loop."""

_ON_LOOP: ContextVar[bool] = ContextVar("headrace.judged_on_loop", default=False)


class LoopBudgetExceeded(Exception):
    """The judgement needs more time than its caller has. Nothing is known about the object."""


@contextmanager
def on_loop() -> Iterator[None]:
    """What is judged inside may raise LoopBudgetExceeded."""
    token = _ON_LOOP.set(True)
    try:
        yield
    finally:
        _ON_LOOP.reset(token)


def is_on_loop() -> bool:
    """Whether the caller cannot wait."""
    return _ON_LOOP.get()
