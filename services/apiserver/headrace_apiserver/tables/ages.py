"""Ages as tables show them: at most two units, rounded as in Kubernetes.

The unit grows with the age, and the smaller unit is shown only while it is significant: 119s,
2m30s, 45m, 3h5m, 30h, 5d2h, 90d, 2y40d.
"""

from datetime import UTC, datetime

UNKNOWN = "<unknown>"
INVALID = "<invalid>"
_NEVER = datetime(1, 1, 1, tzinfo=UTC)
_TIME_MAX = 40
_SKEW_SECONDS = 2
"""A time that is this little in the future is clock skew, not an invalid time."""
_MINUTE, _HOUR, _DAY, _YEAR = 60, 3600, 86_400, 31_536_000


def age(text: object, now: datetime) -> str:
    """The age at `now` of an RFC 3339 time; `<unknown>` for None, `<invalid>` for anything else."""
    if text is None or text == "":
        return UNKNOWN
    moment = read_time(text)
    if moment is None:
        return INVALID
    return UNKNOWN if moment == _NEVER else duration((now - moment).total_seconds())


def read_time(text: object) -> datetime | None:
    """An RFC 3339 time with its offset; None for anything else."""
    # Python accepts more of ISO 8601 than the RFC; an RFC 3339 time has its separators at these
    # positions.
    if (
        not isinstance(text, str)
        or len(text) > _TIME_MAX
        or text[10:11] + text[13:14] + text[16:17] != "T::"
    ):
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None


def duration(seconds: float) -> str:
    """A duration in seconds as one or two units."""
    whole = int(seconds)
    if whole <= -_SKEW_SECONDS:
        return INVALID
    if whole < 2 * _MINUTE:
        return f"{max(whole, 0)}s"
    if whole < 10 * _MINUTE:
        return _two(whole, _MINUTE, "m", 1, "s")
    if whole < 3 * _HOUR:
        return f"{whole // _MINUTE}m"
    if whole < 8 * _HOUR:
        return _two(whole, _HOUR, "h", _MINUTE, "m")
    if whole < 2 * _DAY:
        return f"{whole // _HOUR}h"
    if whole < 8 * _DAY:
        return _two(whole, _DAY, "d", _HOUR, "h")
    if whole < 2 * _YEAR:
        return f"{whole // _DAY}d"
    if whole < 8 * _YEAR:
        return _two(whole, _YEAR, "y", _DAY, "d")
    return f"{whole // _YEAR}y"


def _two(seconds: int, unit: int, name: str, small: int, small_name: str) -> str:
    rest = seconds % unit // small
    return f"{seconds // unit}{name}{rest}{small_name}" if rest else f"{seconds // unit}{name}"
