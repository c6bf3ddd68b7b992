"""What a filter does with events of a type, of which not every attribute is known."""

from typing import Any

import pytest

from headrace.domain import filters
from headrace.domain.filter_possibility import Possibility, Verdict, possibility

KNOWN = {"type": "orders.created", "source": "/shop"}
YES, NO = Possibility(Verdict.YES), Possibility(Verdict.NO)


def maybe(*names: str) -> Possibility:
    """It depends on these."""
    return Possibility(Verdict.MAYBE, names)


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([], YES),
        ([{"exact": {"type": "orders.created"}}], YES),
        ([{"exact": {"type": "orders.deleted"}}], NO),
        ([{"exact": {"subject": "a"}}], maybe("subject")),
        ([{"exact": {"type": "orders.created", "subject": "a"}}], maybe("subject")),
        ([{"exact": {"type": "x", "subject": "a"}}], NO),
        ([{"not": {"prefix": {"source": "/sh"}}}], NO),
        ([{"any": [{"suffix": {"type": "created"}}, {"exact": {"subject": "a"}}]}], YES),
        ([{"any": [{"exact": {"b": "1"}}, {"exact": {"a": "1"}}]}], maybe("a", "b")),
        ([{"exact": {"type": ""}}], NO),
        ([{"attributes": {"type": "", "source": "/shop"}}], YES),
        ([{"attributes": {"id": ""}}], YES),
        ([{"attributes": {"datamediatype": "text/plain"}}], maybe("datacontenttype")),
        ([{"attributes": {"schemaurl": "http://x/"}}], maybe("schemaurl")),
        ([{"cesql": "type = 'orders.created' AND subject = 'a'"}], maybe("subject")),
        ([{"cesql": "type = 'other' AND subject = 'a'"}], NO),
        ([{"cesql": "type LIKE 'orders.%' OR subject = 'a'"}], YES),
        ([{"cesql": "subject = 'a' OR type LIKE 'orders.%'"}], maybe("subject")),
        ([{"cesql": "NOT (type = 'other' AND subject = 'a')"}], YES),
        ([{"cesql": "EXISTS id AND EXISTS type"}], YES),
        ([{"cesql": "EXISTS tenant"}], maybe("tenant")),
        ([{"cesql": "NOT (NOPE(type))"}], NO),
        ([{"cesql": "type = 'orders.created' XOR EXISTS tenant"}], maybe("tenant")),
        ([{"cesql": "subject"}], maybe("subject")),
        ([{"cesql": "type"}], NO),
    ],
)
def test_what_is_known_of_a_type_decides(entries: list[Any], expected: Possibility) -> None:
    """Or it depends on what is not known, by name."""
    assert expected == possibility(filters.compile(entries), KNOWN)
