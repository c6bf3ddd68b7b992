"""The pauses between attempts that fail one after another."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses in seconds: the first after one failure, the last after all further ones."""

    steps: tuple[float, ...]

    def seconds(self, failures: int) -> float:
        """Return the pause after `failures` (at least 1) failures in a row."""
        return self.steps[min(failures, len(self.steps)) - 1]

    @property
    def longest(self) -> float:
        """The last pause, for a failure that a quick retry will not cure."""
        return self.steps[-1]
