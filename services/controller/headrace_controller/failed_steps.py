"""The steps of a plan that have failed, and when each is retried."""

from collections.abc import Awaitable, Mapping, Sequence
from typing import Final, TypeVar

import structlog

from headrace.domain.backoff import Backoff
from headrace.domain.errors import HeadraceError
from headrace.domain.ports import Clock
from headrace_controller.reconcile.observed_state import StepFailure

logger = structlog.get_logger(__name__)

_BACKOFF: Final = Backoff((1.0, 2.0, 5.0, 15.0, 60.0))
S = TypeVar("S")


class FailedSteps:
    """Failed steps by name of the topic, group or object that a step was about."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures: dict[str, int] = {}
        self.current: dict[str, StepFailure] = {}

    def clear(self) -> None:
        """Drop everything: earlier failures may be outdated."""
        self._failures.clear()
        self.current.clear()

    def blocks(self, name: str) -> bool:
        """Whether a step about this name still has to wait."""
        failure = self.current.get(name)
        return failure is not None and failure.retry_at > self._clock.now()

    async def call(self, names: Sequence[str], call: Awaitable[S], otherwise: S) -> S:
        """Await a call about `names`; if it fails, a step about each of them has failed."""
        try:
            result = await call
        except HeadraceError as error:
            self.update(names, dict.fromkeys(names, str(error)))
            return otherwise
        if otherwise is None:
            self.update(names, {})
        return result

    def update(
        self, names: Sequence[str], errors: Mapping[str, str], *, expected: bool = False
    ) -> None:
        """Record the outcome of steps about `names`: success, except for those in `errors`."""
        for name in names:
            if name not in errors:
                # A call that failed as a whole has recorded failures already; this must not count
                # as its success.
                if not self.blocks(name):
                    self.current.pop(name, None)
                    self._failures.pop(name, None)
                continue
            failures = self._failures[name] = self._failures.get(name, 0) + 1
            pause = _BACKOFF.seconds(failures)
            self.current[name] = StepFailure(errors[name], self._clock.now() + pause)
            (logger.debug if expected else logger.warning)(
                "step_failed",
                about=name,
                error=errors[name],
                attempts=failures,
                retry_seconds=pause,
            )
