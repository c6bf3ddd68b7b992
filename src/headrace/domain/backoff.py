"""The pauses between consecutive failed attempts."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses in seconds: the first applies after one failure, the last after all further
    failures. Raises ValueError without any.
    """

    steps: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.steps:
            raise ValueError("a backoff has at least one pause")

    def seconds(self, failures: int) -> float:
        """Return the pause after so many failures in a row, counted from 1 and including the one
        just now.

        Raises ValueError for fewer than 1: there is nothing to wait for yet.
        """
        if failures < 1:
            raise ValueError(f"failures are counted from 1: failures={failures}")
        return self.steps[min(failures, len(self.steps)) - 1]

    @property
    def longest(self) -> float:
        """The last pause, for a failure that a quick retry will not fix."""
        return self.steps[-1]
