"""Implements the `Clock` port with the system clock. Composition roots use it; tests pass a clock
that they control.
"""

import time


class SystemClock:
    """Implements `headrace.domain.ports.Clock`."""

    __slots__ = ()

    def now(self) -> float:
        """See the port."""
        return time.time()

    def monotonic(self) -> float:
        """See the port."""
        return time.monotonic()
