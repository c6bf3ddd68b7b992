"""Alarms that many subscriptions have for the same reason, as when no broker answers: one line in
the log for all of them.
"""

from typing import Final

from headrace.domain.feed import AlarmKind, FeedAlarm

SECONDS: Final = 10.0
"""A feed repeats an alarm after this time."""
_KNOWN_MAX: Final = 256


class SharedAlarms:
    """What the subscriptions of one process have reported lately."""

    def __init__(self) -> None:
        self._logged: dict[tuple[AlarmKind, str], tuple[float, int]] = {}
        """When an alarm was logged (monotonic seconds), and of how many others it was not since."""

    def report(self, alarm: FeedAlarm, now: float) -> int | None:
        """Return None if the same alarm was logged a moment ago, for another feed; else how many
        others had it since it was logged before. Alarms about one partition, and with a count, are
        not the same for others.
        """
        if alarm.partition is not None or alarm.count:
            return 0
        key = (alarm.kind, alarm.detail)
        logged_at, others = self._logged.get(key, (float("-inf"), 0))
        if now - logged_at < SECONDS:
            self._logged[key] = (logged_at, others + 1)
            return None
        if len(self._logged) >= _KNOWN_MAX:
            self._logged.clear()
        self._logged[key] = (now, 0)
        return others
