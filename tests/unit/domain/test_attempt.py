"""The transition table of an event in one subscription."""

from pathlib import Path

import pytest

from headrace.domain.attempt import (
    TERMINAL,
    AttemptEvent,
    AttemptState,
    IllegalTransition,
    after,
    as_markdown,
)

DOCUMENT = Path(__file__).parents[3] / "docs" / "delivery.md"

PATHS = [
    ("delivered", [AttemptEvent.SEND, AttemptEvent.DELIVERED], AttemptState.DONE),
    (
        "delivered with a reply",
        [AttemptEvent.SEND, AttemptEvent.REPLIED, AttemptEvent.REPLY_STORED],
        AttemptState.DONE,
    ),
    (
        "failed and stored",
        [AttemptEvent.SEND, AttemptEvent.STORE, AttemptEvent.STORED],
        AttemptState.DONE,
    ),
    (
        "failed in place, then delivered",
        [AttemptEvent.SEND, AttemptEvent.HOLD, AttemptEvent.SEND, AttemptEvent.DELIVERED],
        AttemptState.DONE,
    ),
    (
        "reply failed in place, then stored",
        [
            AttemptEvent.SEND,
            AttemptEvent.REPLIED,
            AttemptEvent.HOLD,
            AttemptEvent.SEND_REPLY,
            AttemptEvent.REPLY_STORED,
        ],
        AttemptState.DONE,
    ),
    (
        "reply failed and stored",
        [AttemptEvent.SEND, AttemptEvent.REPLIED, AttemptEvent.STORE, AttemptEvent.STORED],
        AttemptState.DONE,
    ),
    ("unreadable", [AttemptEvent.STORE, AttemptEvent.STORED], AttemptState.DONE),
    (
        "refused by the log, then released",
        [AttemptEvent.STORE, AttemptEvent.STORE_REFUSED, AttemptEvent.RELEASE, AttemptEvent.STORED],
        AttemptState.DONE,
    ),
    ("revoked while sending", [AttemptEvent.SEND, AttemptEvent.WITHDRAW], AttemptState.WITHDRAWN),
]


@pytest.mark.parametrize(
    ("steps", "end"), [path[1:] for path in PATHS], ids=[path[0] for path in PATHS]
)
def test_every_course_of_an_event_ends(steps: list[AttemptEvent], end: AttemptState) -> None:
    """The sequences that the design describes are in the table."""
    state = AttemptState.WAITING
    for step in steps:
        state = after(state, step)
    assert end is state


@pytest.mark.parametrize("state", sorted(TERMINAL))
@pytest.mark.parametrize("step", list(AttemptEvent))
def test_nothing_follows_an_end(state: AttemptState, step: AttemptEvent) -> None:
    """A second answer for a finished event raises an error."""
    with pytest.raises(IllegalTransition, match="nothing"):
        after(state, step)


def test_an_event_is_never_done_while_its_record_is_being_written() -> None:
    """A commit before the retry record is acknowledged would lose the event in a crash. Only STORED
    leads from storing to done.
    """
    leads = []
    for step in AttemptEvent:
        try:
            if after(AttemptState.STORING, step) is AttemptState.DONE:
                leads.append(step)
        except IllegalTransition:
            continue
    assert [AttemptEvent.STORED] == leads


def test_an_event_that_cannot_be_stored_is_never_done() -> None:
    """STUCK leads back to storing or to withdrawn, not to done."""
    assert AttemptState.STORING is after(AttemptState.STUCK, AttemptEvent.RELEASE)
    with pytest.raises(
        IllegalTransition, match="stuck cannot stored; what can follow is release, withdraw"
    ):
        after(AttemptState.STUCK, AttemptEvent.STORED)


def test_every_open_state_can_be_withdrawn() -> None:
    """Partitions may be revoked at any moment."""
    assert {AttemptState.WITHDRAWN} == {
        after(state, AttemptEvent.WITHDRAW) for state in set(AttemptState) - TERMINAL
    }


def test_the_document_shows_the_table() -> None:
    """docs/delivery.md contains the table that the code uses."""
    assert as_markdown() in DOCUMENT.read_text()
