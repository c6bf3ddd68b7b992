"""The conformance table cannot drift: it is generated from the marks of the tests, and each clause
that is met has one.
"""

from tests.conformance.clauses import SECTIONS, TABLE, Verdict, claims, table

CLAUSES = {clause.number: clause for clauses in SECTIONS.values() for clause in clauses}


def test_the_page_is_generated_from_the_tests() -> None:
    """docs/conformance.md is the output of `python -m tests.conformance.clauses`."""
    assert table() == TABLE.read_text()


def test_every_clause_that_is_met_has_a_test() -> None:
    """A clause that is met has a test, one that is not implemented has none."""
    claimed = claims()
    kept = {
        number
        for number, clause in CLAUSES.items()
        if clause.verdict in (Verdict.YES, Verdict.BETTER)
    }
    assert [] == sorted(kept - claimed.keys())
    assert [] == sorted(
        number for number in claimed if CLAUSES[number].verdict is Verdict.LATER and number != "E7"
    )


def test_every_mark_names_a_clause() -> None:
    """A mark with an unknown number would not appear in the table."""
    assert [] == sorted(claims().keys() - CLAUSES.keys())


def test_every_number_of_the_specification_is_listed_once() -> None:
    """No clause is missing or listed twice."""
    counts = {"D": 17, "B": 5, "T": 5, "C": 3, "S": 7, "R": 3, "E": 11, "F": 5, "X": 6, "O": 8}
    expected = [
        f"{letter}{number}" for letter, count in counts.items() for number in range(1, count + 1)
    ]
    listed = [clause.number for clauses in SECTIONS.values() for clause in clauses]
    assert len(listed) == len(set(listed))
    assert [] == sorted(set(expected) - set(listed))
