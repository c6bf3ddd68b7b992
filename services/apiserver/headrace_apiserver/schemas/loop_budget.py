"""How long validation may block its caller: the event loop for a very short time, a thread up to
the limits of the rules.

The rules of an object may take half a second of processor time, and may wait for subprocesses. On
the event loop that would delay probes, watches and the renewal of the lease. So validation on the
loop raises `LoopBudgetExceeded` where it would start to block, and is repeated in a thread
(`admission_pool`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

LOOP_SECONDS = 0.05
"""Processor time that the rules of one object may take on the event loop."""

_ON_LOOP: ContextVar[bool] = ContextVar("headrace.judged_on_loop", default=False)


class LoopBudgetExceeded(Exception):
    """Validation needs more time than its caller has. Nothing is known about the object yet."""


@contextmanager
def on_loop() -> Iterator[None]:
    """Validation inside this context may raise LoopBudgetExceeded."""
    token = _ON_LOOP.set(True)
    try:
        yield
    finally:
        _ON_LOOP.reset(token)


def is_on_loop() -> bool:
    """Whether the caller must not block."""
    return _ON_LOOP.get()
