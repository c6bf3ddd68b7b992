"""Conditions: Ready is derived as in Knative's condition manager, and times change only with
content.
"""

from typing import Any

import pytest

from headrace.resources.conditions import (
    HAPPY,
    Condition,
    ConditionSet,
    condition_of,
    failed,
    happy,
    is_true,
    unknown,
)

SET = ConditionSet("A", "B", "C")
EARLY, LATE = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"


def ready(entries: list[dict[str, Any]]) -> tuple[str, str, str]:
    """Status, reason and message of Ready."""
    found = next(each for each in entries if each["type"] == "Ready")
    return found["status"], found.get("reason", ""), found.get("message", "")


@pytest.mark.clause("X2", "X3", "X4")
@pytest.mark.parametrize(
    ("decided", "expected"),
    [
        ({}, ("Unknown", "", "")),
        ({"A": happy(""), "B": happy(""), "C": happy("")}, ("True", "", "")),
        ({"A": happy("Because", "x"), "B": happy(""), "C": happy("")}, ("True", "", "")),
        ({"A": happy(""), "B": happy("")}, ("Unknown", "", "")),
        (
            {"A": happy(""), "B": unknown("Waiting", "w"), "C": failed("Broken", "b")},
            ("False", "Broken", "b"),
        ),
        (
            {"A": failed("First", "1"), "B": failed("Second", "2"), "C": happy("")},
            ("False", "First", "1"),
        ),
        (
            {"A": happy(""), "B": unknown("Waiting", "w"), "C": happy("")},
            ("Unknown", "Waiting", "w"),
        ),
        (
            {"A": happy(""), "B": happy(""), "C": happy(""), "Extra": failed("No", "n")},
            ("True", "", ""),
        ),
    ],
)
def test_ready_follows_the_dependents(
    decided: dict[str, Condition], expected: tuple[str, str, str]
) -> None:
    """True if all are, else the worst one: False before Unknown; informational conditions do not
    count.
    """
    assert expected == ready(SET.render(decided, before=(), now=EARLY))


@pytest.mark.clause("X5")
def test_what_is_switched_off_is_ready_with_a_reason() -> None:
    """Only while nothing is wrong."""
    paused = happy("Paused", "switched off")
    conditions = ConditionSet("A")
    for decided, reason in ((HAPPY, "Paused"), (failed("Broken", "why"), "Broken")):
        entries = conditions.render({"A": decided}, before=(), now="t", when_ready=paused)
        [ready] = [each for each in entries if each["type"] == "Ready"]
        assert (str(decided.status), reason) == (ready["status"], ready["reason"])


def test_of_two_failures_the_newest_is_shown() -> None:
    """The most recent transition is the most useful one."""
    before = SET.render(
        {"A": happy(""), "B": failed("Old", "o"), "C": happy("")}, before=(), now=EARLY
    )
    after = SET.render(
        {"A": failed("New", "n"), "B": failed("Old", "o"), "C": happy("")}, before=before, now=LATE
    )
    assert ("False", "New", "n") == ready(after)


def test_times_move_only_with_content() -> None:
    """The same status computed again is equal, and a change affects only the time of what
    changed.
    """
    decided = {"A": happy(""), "B": unknown("Waiting", "w"), "C": happy("")}
    before = SET.render(decided, before=(), now=EARLY)
    assert before == SET.render(decided, before=before, now=LATE)
    after = {
        each["type"]: each["lastTransitionTime"]
        for each in SET.render({**decided, "B": happy("")}, before=before, now=LATE)
    }
    assert {"A": EARLY, "B": LATE, "C": EARLY, "Ready": LATE} == after


@pytest.mark.clause("X1", "X6")
def test_the_list_is_sorted_and_others_are_informational() -> None:
    """Sorted by type; conditions that Ready does not depend on have severity Info."""
    entries = SET.render({"Z": happy("")}, before=(), now=EARLY)
    assert ["A", "B", "C", "Ready", "Z"] == [each["type"] for each in entries]
    assert [None, None, None, None, "Info"] == [each.get("severity") for each in entries]


def test_a_foreign_status_is_read_with_care() -> None:
    """Invalid entries are not conditions."""
    assert condition_of({"conditions": "x"}, "Ready") is None
    assert condition_of({"conditions": [{"type": "Ready", "status": "Maybe"}, 5]}, "Ready") is None
    assert is_true({"conditions": [{"type": "Ready", "status": "True"}]}, "Ready")
