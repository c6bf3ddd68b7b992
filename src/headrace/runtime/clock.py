"""The machine's clock behind the `Clock` port: what composition roots pass in where tests pass one
of their own.
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
