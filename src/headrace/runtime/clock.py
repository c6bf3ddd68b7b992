"""Implements the `Clock` port with the system clock. Composition roots use it; tests pass a clock
that they control.
"""

import time


class SystemClock:
    """Implements `headrace.domain.ports.Clock`."""

    __slots__ = ()

    # Read several times for each event: a method around each would double the cost.
    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)
