"""When a cron expression fires, as PingSource writes it.

Five fields, or six with seconds before them; `@hourly` and the other names; `TZ=` or `CRON_TZ=`
with a name of the time zone database before the fields. At a change of daylight saving time the
rules are those of Debian's cron: a time of day that does not exist fires when the clock has been
put forward, and one that exists twice fires the first time. An expression whose minutes or hours
begin with `*` follows the elapsed time instead.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo
from itertools import islice, takewhile
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from cronsim import CronSim, CronSimError

from headrace_sources.source import SourceFault

NAMES: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_ZONE_PREFIXES: Final = ("CRON_TZ=", "TZ=")
_WITH_SECONDS: Final = 6
_MINUTE: Final = 60.0


class Schedule:
    """The times of an expression. Raises `SourceFault` for one that is not valid, or that never
    fires.
    """

    def __init__(self, expression: str, timezone: str = "") -> None:
        first, _, rest = expression.strip().partition(" ")
        prefix = next((each for each in _ZONE_PREFIXES if first.startswith(each)), None)
        fields = rest.strip() if prefix is not None else expression.strip()
        self._zone = _zone(timezone or (first.removeprefix(prefix) if prefix is not None else ""))
        self._fields = _fields(fields)
        self._seconds = _fixed_seconds(self._fields)
        self.after(0.0)

    def __str__(self) -> str:
        """The fields and the time zone: two schedules with the same text fire at the same times."""
        return f"{self._fields} {self._zone}"

    def after(self, seconds: float) -> float:
        """Return the first time after this one; both are Unix seconds."""
        return next(self.times_after(seconds))

    def newest(self, begin: float, end: float, count_max: int) -> list[float]:
        """Return the times after `begin` and up to `end`, the newest `count_max` of them, without
        going through all of them.
        """
        found = self._between(begin, end, count_max + 1)
        if len(found) <= count_max:
            return found
        # There are more after `low`, and no more after `high`. Times are whole seconds.
        low, high = begin, end
        while high - low > 1.0:
            middle = (low + high) / 2
            if len(self._between(middle, end, count_max + 1)) > count_max:
                low = middle
            else:
                high = middle
        return self._between(low, end, count_max + 1)[-count_max:]

    def times_after(self, seconds: float) -> Iterator[float]:
        """Return the times after this one, in Unix seconds, each later than the one before, for the
        next 50 years at least.
        """
        last = seconds
        for each in self._times(seconds):
            # The library returns one time for each time of day that does not exist, and begins in
            # the first of two equal hours when it is asked in the second.
            if each > last:
                last = each
                yield each
        if last == seconds:
            raise SourceFault(
                "InvalidSchedule", f"spec.schedule: {self._fields[:100]} never comes; change it"
            )

    def _between(self, begin: float, end: float, count_max: int) -> list[float]:
        times = takewhile(lambda each: each <= end, self.times_after(begin))
        return list(islice(times, count_max))

    def _times(self, seconds: float) -> Iterator[float]:
        if not self._seconds:
            yield from self._simulate(self._fields, seconds)
            return
        # The library has the rules of Debian's cron for five fields only.
        minutes = self._fields.partition(" ")[2]
        for minute in self._simulate(minutes, seconds - _MINUTE):
            for second in self._seconds:
                yield minute + second

    def _simulate(self, fields: str, seconds: float) -> Iterator[float]:
        begin = datetime.fromtimestamp(seconds, UTC).astimezone(self._zone)
        for each in _simulation(fields, begin):
            yield each.timestamp()


def _simulation(fields: str, begin: datetime) -> CronSim:
    try:
        return CronSim(fields, begin)
    except CronSimError as error:
        raise SourceFault("InvalidSchedule", f"spec.schedule: {fields[:100]}: {error}") from None


def _fixed_seconds(fields: str) -> list[int]:
    """The seconds of an expression of six fields that names its times of day; none for others."""
    simulation = _simulation(fields, datetime.fromtimestamp(0, UTC))
    given = fields.split()
    if len(given) != _WITH_SECONDS or given[1].startswith("*") or given[2].startswith("*"):
        return []
    return sorted(simulation.seconds)


def _fields(text: str) -> str:
    if text.startswith("@"):
        if text not in NAMES:
            raise SourceFault(
                "InvalidSchedule",
                f"spec.schedule: unsupported descriptor {text[:50]}; supported are"
                f" {', '.join(NAMES)}",
            )
        return NAMES[text]
    return " ".join("*" if each == "?" else each for each in text.split())


def _zone(name: str) -> tzinfo:
    if name in ("", "UTC"):
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        missing = "" if available_timezones() else "; this machine has none: install tzdata"
        raise SourceFault(
            "InvalidTimeZone",
            f"spec.timezone: {name[:64]} is no name of the IANA time zone database, such as"
            f" Europe/Lisbon{missing}",
        ) from None
