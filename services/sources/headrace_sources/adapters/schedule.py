"""When a cron expression fires, as PingSource writes it.

Five fields, or six with seconds before them; `@hourly` and the other names; `TZ=` or `CRON_TZ=`
with a name of the time zone database before the fields. At a change of daylight saving time the
rules are those of Debian's cron, by the library: a time of day that does not exist fires when the
clock has been put forward, and one that exists twice fires the first time. An expression with `*`
in its minutes or hours, or with seconds, follows the elapsed time instead.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

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
        self.after(0.0)

    def after(self, seconds: float) -> float:
        """Return the first time after this one; both are Unix seconds."""
        return next(self.times_after(seconds))

    def times_after(self, seconds: float) -> Iterator[float]:
        """Return the times after this one, in Unix seconds, for the next 50 years at least."""
        begin = datetime.fromtimestamp(seconds, UTC).astimezone(self._zone)
        try:
            times = CronSim(self._fields, begin)
        except CronSimError as error:
            raise SourceFault(
                "InvalidSchedule", f"spec.schedule: {self._fields[:100]}: {error}"
            ) from None
        found = False
        for each in times:
            found = True
            yield each.timestamp()
        if not found:
            raise SourceFault(
                "InvalidSchedule", f"spec.schedule: {self._fields[:100]} never comes; change it"
            )


def _fields(text: str) -> str:
    if text.startswith("@"):
        if text not in NAMES:
            raise SourceFault(
                "InvalidSchedule",
                f"spec.schedule: unsupported descriptor {text[:50]}; supported are"
                f" {', '.join(NAMES)}",
            )
        return NAMES[text]
    fields = ["*" if each == "?" else each for each in text.split()]
    # Seconds of 0 mean the same as none, also at a change of daylight saving time.
    if len(fields) == _WITH_SECONDS and fields[0] == "0":
        fields = fields[1:]
    return " ".join(fields)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise SourceFault(
            "InvalidTimeZone",
            f"spec.timezone: {name[:64]} is no name of the IANA time zone database, such as"
            " Europe/Lisbon",
        ) from None
