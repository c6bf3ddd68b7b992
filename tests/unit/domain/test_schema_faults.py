"""Which faults a process reports, and how often a report changes."""

from headrace.domain.schema_faults import (
    FORGET_SECONDS,
    REPORT_SECONDS,
    REPORTED_MAX,
    TEXT_MAX,
    SchemaFaults,
)


def test_the_newest_fault_is_reported_for_some_time() -> None:
    """It changes at most once in ten seconds, and is forgotten ten minutes after the last one."""
    faults = SchemaFaults()
    faults.note("a", "first", 0.0)
    faults.note("a", "second", 1.0)
    assert {"a": "second"} == faults.current(1.0)
    faults.note("a", "third", 2.0)
    assert {"a": "second"} == faults.current(3.0)
    assert {"a": "third"} == faults.current(1.0 + REPORT_SECONDS)
    assert {"a": "third"} == faults.current(1.9 + FORGET_SECONDS)
    assert {} == faults.current(2.0 + FORGET_SECONDS)


def test_a_report_is_bounded() -> None:
    """In entries and in text; the newest ones are in it."""
    faults = SchemaFaults()
    for number in range(REPORTED_MAX + 50):
        faults.note(str(number), "x" * 10_000, float(number))
    found = faults.current(200.0)
    assert (REPORTED_MAX, TEXT_MAX) == (len(found), len(found["149"]))
    faults.keep({"149"})
    assert ["149"] == list(faults.current(201.0))
