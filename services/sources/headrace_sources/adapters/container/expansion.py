"""References to variables in commands, arguments and variables, as in Kubernetes: `$(NAME)` is the
value of a variable, `$$` is `$`, and a reference to a variable that does not exist stays as it is.
"""

import re
from collections.abc import Iterable, Mapping

_REFERENCE = re.compile(r"\$\$|\$\(([^)]*)\)")


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """Return the text with the values of these variables."""

    def value(match: re.Match[str]) -> str:
        if match[1] is None:
            return "$"
        return variables.get(match[1], match[0])

    return _REFERENCE.sub(value, text)


def expanded_environment(
    entries: Iterable[tuple[str, str, bool]], added: Mapping[str, str]
) -> dict[str, str]:
    """Return variables by name. An entry has a name, a value, and whether references in the value
    are expanded; they are to entries before it. `added` comes last, over any entry of its name.
    """
    found: dict[str, str] = {}
    for name, value, expand in entries:
        if name not in added:
            found[name] = expanded(value, found) if expand else value
    return found | dict(added)
