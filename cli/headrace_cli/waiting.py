"""Waits for what controllers do, with one deadline for several objects."""

import time
from collections.abc import Callable
from typing import Final

_LOOK_SECONDS: Final = 0.1
_USUAL_SECONDS: Final = 3.0


class Waiting:
    """The pauses between looks at objects that are not as wanted yet."""

    def __init__(self, seconds: float, slow: Callable[[str], None]) -> None:
        """`slow` is called with what takes longer than usual, once for each text."""
        self._begun = time.monotonic()
        self._seconds = seconds
        self._slow = slow
        self._reported = ""

    def pause(self, reason: str) -> bool:
        """Wait until the next look; return False if the time is over. `reason` says which object is
        waited for, and why.
        """
        waited = time.monotonic() - self._begun
        if waited > self._seconds:
            return False
        if waited > _USUAL_SECONDS and reason != self._reported:
            self._slow(reason)
            self._reported = reason
        time.sleep(_LOOK_SECONDS)
        return True
