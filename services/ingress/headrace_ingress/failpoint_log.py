"""The port `Log` with the failpoints of the ingress, for a process in which one of them is set."""

from functools import partial

from headrace.domain.errors import HeadraceError
from headrace.domain.ports import Log, OnStored
from headrace.domain.record import Record
from headrace.runtime.failpoints import Failpoint, failpoint, is_set


def log_with_failpoints(log: Log) -> Log:
    """Return the log of a process; it is decorated if one of the failpoints is set."""
    return FailpointLog(log) if is_set(Failpoint.BEFORE_PRODUCE, Failpoint.AFTER_PRODUCE) else log


class FailpointLog:
    """A log that passes a failpoint before each record and after each that is stored."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def append(self, topic: str, record: Record, stored: OnStored) -> None:
        """As `Log.append`."""
        failpoint(Failpoint.BEFORE_PRODUCE)
        self._log.append(topic, record, partial(_stored, stored))

    async def flush(self, timeout_seconds: float) -> int:
        """As `Log.flush`."""
        return await self._log.flush(timeout_seconds)


def _stored(stored: OnStored, error: HeadraceError | None) -> None:
    if error is None:
        failpoint(Failpoint.AFTER_PRODUCE)
    stored(error)
