"""Whether all attempts of a subscription have failed lately, and why: the reason that a user looks
for when a Trigger is Ready and nothing arrives.
"""

from typing import Final

from headrace_dispatcher.limits import RECENT_SECONDS

FAILING_SECONDS: Final = 5.0
"""How long attempts must have failed without a success: single failures are usual, and each change
of what is reported is written to the status of the resource.
"""


class FailingAttempts:
    """The failures since the last success. Successes are only counted elsewhere, because there are
    many; the count is compared here.
    """

    __slots__ = ("_error", "_last", "_since", "_successes")

    def __init__(self) -> None:
        self._error = ""
        self._successes = 0
        self._since = self._last = float("-inf")

    def note(self, error: str, successes: int, now: float) -> None:
        """An attempt has failed and is repeated. `successes` counts those of the subscription since
        the process started; `now` is monotonic.
        """
        if not self._error or successes != self._successes:
            # The first error is kept: a status that changed with every error would be written with
            # every error.
            self._error, self._successes, self._since = error, successes, now
        self._last = now

    def current(self, successes: int, now: float) -> str:
        """Return the error; empty if there was a success since, or attempts have not failed for
        long enough, or none has failed for ten minutes.
        """
        if (
            successes != self._successes
            or now - self._since < FAILING_SECONDS
            or now - self._last > RECENT_SECONDS
        ):
            return ""
        return self._error
