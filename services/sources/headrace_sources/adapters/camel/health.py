"""Whether the consumers of Camel's routes can read, from what they log.

A consumer that cannot (a refused login, an outside system that is down) tries again by itself, and
logs a warning each time. That it can again is not logged, so it is assumed when an event arrives,
or when there was no such warning for some time.
"""

import asyncio
import re
from typing import Final

from headrace_sources.source import DEPLOYED, SourceContext

QUIET_SECONDS: Final = 60.0
_FAILED: Final = re.compile(
    r"(?:WARN|ERROR) \w*(?:Consumer|PollStrategy|ExceptionHandler) - (?!Error processing)(.+)"
)
"""Exchanges that failed are not among them: the sink or the route has failed there."""


class ConsumerHealth:
    """Reports it as the condition `Deployed`, from the start of the routes on."""

    def __init__(self, context: SourceContext, quiet_seconds: float = QUIET_SECONDS) -> None:
        self._context = context
        self._quiet_seconds = quiet_seconds
        self._quiet: asyncio.TimerHandle | None = None
        """Set while a consumer fails."""

    def started(self) -> None:
        """Camel runs the routes."""
        if self._quiet is None:
            self._context.report(DEPLOYED, True)

    def read_line(self, line: str) -> None:
        """Look at a line of output, in which no secret is left."""
        found = _FAILED.match(line)
        if found is None:
            return
        self.close()
        self._quiet = asyncio.get_running_loop().call_later(self._quiet_seconds, self.works)
        self._context.report(
            DEPLOYED,
            False,
            "ConsumerFailed",
            f"Camel cannot read: {found[1]}; it tries again; check the address, the login and the"
            " options of the endpoint, and the log",
        )

    def works(self) -> None:
        """A consumer has read something, or nothing has failed for some time."""
        if self._quiet is not None:
            self.close()
            self._context.report(DEPLOYED, True)

    def close(self) -> None:
        """Report nothing later."""
        if self._quiet is not None:
            self._quiet.cancel()
            self._quiet = None
