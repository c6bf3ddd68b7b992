"""The pauses between consecutive failed attempts."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses in seconds: the first applies after one failure, the last after all further
    failures.
    """

    steps: tuple[float, ...]

    def seconds(self, failures: int) -> float:
        """Return the pause after `failures` (at least 1) failures in a row."""
        return self.steps[min(failures, len(self.steps)) - 1]

    @property
    def longest(self) -> float:
        """The last pause, for a failure that a quick retry will not fix."""
        return self.steps[-1]
