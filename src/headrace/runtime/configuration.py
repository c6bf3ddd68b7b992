"""The settings that a process uses, as they are shown to its operator: by environment variable, on
`/configz` and by `headrace config show`.

Secrets are in files, so that a setting has the path of one. A password in a URL is left out.
"""

from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from urllib.parse import urlsplit

from headrace.runtime.settings import Settings, variables

Value = str | int | float | bool | None
REDACTED = "REDACTED"


def configuration(settings: Iterable[Settings]) -> dict[str, Value]:
    """Return the value of each setting by the name of its first environment variable."""
    return {
        names[0]: shown(getattr(each, field))
        for each in settings
        for field, names in variables(type(each)).items()
    }


def shown(value: object) -> Value:
    """Return a value as JSON has it, without the password of a URL."""
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, Path | str):
        return ",".join(_without_password(each) for each in str(value).split(","))
    if value is None or isinstance(value, bool | int | float):
        return value
    raise TypeError(f"a setting is a {type(value).__name__}")


def _without_password(text: str) -> str:
    try:
        parts = urlsplit(text.strip())
    except ValueError:
        return text
    if not parts.scheme or parts.password is None:
        return text
    user, _, host = parts.netloc.rpartition("@")
    name = user.partition(":")[0]
    return parts._replace(netloc=f"{name}:{REDACTED}@{host}").geturl()
