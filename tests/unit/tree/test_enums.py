"""Every member of an enumeration is used by production code: an unused step, reason or failpoint
would make documents wrong.
"""

import pytest

from tests.unit.tree.sources import EnumClass, enums, uses_of

BY_VALUE = {
    "services/apiserver/headrace_apiserver/responses.py:Representation",
    "services/apiserver/headrace_apiserver/requests/options.py:Strictness",
    "services/apiserver/headrace_apiserver/tables/table.py:Included",
    "src/headrace/runtime/settings.py:LogFormat",
    "src/headrace/runtime/settings.py:LogLevel",
    "src/headrace/runtime/settings.py:SaslMechanism",
    "src/headrace/runtime/settings.py:SecurityProtocol",
}
"""Enumerations whose members are created from values (a setting, an option, a request parameter),
so not every one is named.
"""
ELSEWHERE = {
    "src/headrace/domain/attempt.py:AttemptEvent",
    "src/headrace/runtime/failpoints.py:Failpoint",
}
"""Enumerations whose own module lists members in tables: they count only if another module names
them.
"""


def _title(enum: EnumClass) -> str:
    return f"{enum.path}:{enum.name}"


ENUMS = sorted(enums(), key=_title)


@pytest.mark.parametrize(
    "enum", [each for each in ENUMS if _title(each) not in BY_VALUE], ids=_title
)
def test_every_member_is_named_by_production_code(enum: EnumClass) -> None:
    """Outside its definition."""
    used = {
        member
        for path, line, member in uses_of(enum)
        if path != enum.path or (_title(enum) not in ELSEWHERE and line not in enum.lines)
    }
    assert set() == enum.members - used


def test_the_exceptions_exist() -> None:
    """None is left over from a removed name."""
    assert {_title(each) for each in ENUMS} >= BY_VALUE | ELSEWHERE
