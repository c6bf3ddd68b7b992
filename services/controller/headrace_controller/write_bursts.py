"""Bursts: clients write one resource after another, such as `kubectl apply` of a thousand Triggers.

Each iteration would find a few new resources, decide on all of them, and take the time that the API
needs. So the reconcile loop pauses between short runs of iterations, until no more is written.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from headrace.resources.resource import Change, ResourceKind

RUN_ITERATIONS: Final = 4
"""Iterations in a row: that many from a new subscription to the creation of its topics, which takes
Kafka longest.
"""
PAUSE_FACTOR: Final = 2.0
"""The longest pause is this multiple of the run before."""
PAUSE_SECONDS_MAX: Final = 5.0
END_SECONDS: Final = 0.25
"""A burst has ended when clients have written nothing for this time."""


class WriteBursts:
    """Pauses the loop after a run of iterations during which clients have written resources."""

    def __init__(self, kinds: Iterable[ResourceKind]) -> None:
        """`kinds` are those that the loop reconciles."""
        self._kinds = {(each.group, each.plural) for each in kinds}
        self._written = False
        """Whether clients have written since the run began."""
        self._iterations = 0
        self._seconds = 0.0

    def on_changes(self, changes: Sequence[Change]) -> None:
        """Note what was written to the store."""
        self._written |= any(
            (each.key.group, each.key.plural) in self._kinds and is_of_client(each)
            for each in changes
        )

    def begin_iteration(self) -> None:
        """The first iteration of a run finds everything that was written before."""
        if self._iterations == 0:
            self._written = False

    async def end_iteration(self, seconds: float, *, is_last: bool) -> None:
        """Pause, if a run of iterations has ended. `seconds` is what the iteration took; `is_last`
        says that there is nothing to do at once.
        """
        self._iterations += 1
        self._seconds += seconds
        if self._iterations < RUN_ITERATIONS and not is_last:
            return
        pause = min(PAUSE_FACTOR * self._seconds, PAUSE_SECONDS_MAX)
        self._iterations, self._seconds = 0, 0.0
        loop = asyncio.get_running_loop()
        end = loop.time() + pause
        while self._written and (left := end - loop.time()) > 0:
            self._written = False
            await asyncio.sleep(min(left, END_SECONDS))


def is_of_client(change: Change) -> bool:
    """Whether a resource was created, its spec was changed or it was deleted: the controller itself
    writes statuses and finalizers.
    """
    before, after = change.before, change.after
    if before is None:
        return True
    return not before.deleting if after is None else before.generation != after.generation
