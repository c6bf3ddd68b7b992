"""The table of an event's life in a subscription."""

from pathlib import Path

import pytest

from headrace.domain.attempt import TERMINAL, IllegalStep, State, Step, after, as_markdown

DOCUMENT = Path(__file__).parents[2] / "docs" / "delivery.md"

PATHS = [
    ("delivered", [Step.SEND, Step.DELIVERED], State.DONE),
    ("delivered with a reply", [Step.SEND, Step.REPLIED, Step.REPLY_STORED], State.DONE),
    ("failed and parked", [Step.SEND, Step.PARK, Step.PARKED], State.DONE),
    (
        "failed in place, then delivered",
        [Step.SEND, Step.HOLD, Step.SEND, Step.DELIVERED],
        State.DONE,
    ),
    (
        "reply failed in place, then stored",
        [Step.SEND, Step.REPLIED, Step.HOLD, Step.SEND_REPLY, Step.REPLY_STORED],
        State.DONE,
    ),
    ("reply failed and parked", [Step.SEND, Step.REPLIED, Step.PARK, Step.PARKED], State.DONE),
    ("unreadable", [Step.PARK, Step.PARKED], State.DONE),
    (
        "refused by the log, then released",
        [Step.PARK, Step.PARK_REFUSED, Step.RELEASE, Step.PARKED],
        State.DONE,
    ),
    ("revoked while sending", [Step.SEND, Step.WITHDRAW], State.WITHDRAWN),
]


@pytest.mark.parametrize(
    ("steps", "end"), [path[1:] for path in PATHS], ids=[path[0] for path in PATHS]
)
def test_every_course_of_an_event_ends(steps: list[Step], end: State) -> None:
    """The courses that the design describes are in the table."""
    state = State.WAITING
    for step in steps:
        state = after(state, step)
    assert end is state


@pytest.mark.parametrize("state", sorted(TERMINAL))
@pytest.mark.parametrize("step", list(Step))
def test_nothing_follows_an_end(state: State, step: Step) -> None:
    """A second answer for a finished event is an error."""
    with pytest.raises(IllegalStep, match="nothing"):
        after(state, step)


def test_an_event_is_never_done_while_its_record_is_being_written() -> None:
    """Committing before the retry record is acknowledged would lose the event in a crash: only
    PARKED leads from parking to done.
    """
    leads = []
    for step in Step:
        try:
            if after(State.PARKING, step) is State.DONE:
                leads.append(step)
        except IllegalStep:
            continue
    assert [Step.PARKED] == leads


def test_an_event_that_cannot_be_parked_is_never_done() -> None:
    """STUCK leads back to parking or away, not to a commit."""
    assert State.PARKING is after(State.STUCK, Step.RELEASE)
    with pytest.raises(
        IllegalStep, match="stuck cannot parked; what can follow is release, withdraw"
    ):
        after(State.STUCK, Step.PARKED)


def test_every_open_state_can_be_withdrawn() -> None:
    """A revoke may come at any moment."""
    assert {State.WITHDRAWN} == {after(state, Step.WITHDRAW) for state in set(State) - TERMINAL}


def test_the_document_shows_the_table() -> None:
    """docs/delivery.md contains the table that the code follows."""
    assert as_markdown() in DOCUMENT.read_text()
