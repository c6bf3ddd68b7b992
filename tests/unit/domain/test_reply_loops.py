"""Chains of replies: their members, when they form a loop, and the rate limit for replies in a
loop.
"""

from hypothesis import given
from hypothesis import strategies as st

from headrace.domain.reply_loops import MEMBERS_MAX, RateLimiter, circle, extend, member

A, B, C = (f"{letter * 8}-1111-2222-3333-444444444444" for letter in "abc")


def chain(*uids: str) -> str:
    """Return the chain of these replies."""
    text = ""
    for uid in uids:
        text = extend(text, uid)
    return text


def test_a_chain_that_has_not_come_back_is_no_loop() -> None:
    """A long sequence of different subscriptions is typical of a Sequence."""
    assert () == circle(chain(), A)
    assert () == circle(chain(A, B), C)


def test_the_members_of_a_loop_are_those_since_the_last_visit() -> None:
    """Subscriptions that replied before the loop began are not members."""
    assert (member(A),) == circle(chain(A), A)
    assert (member(A), member(B)) == circle(chain(C, A, B), A)
    assert (member(B), member(C)) == circle(chain(A, B, A, B, C), B)


@given(st.lists(st.sampled_from([A, B, C]), max_size=200))
def test_a_chain_stays_small(uids: list[str]) -> None:
    """The newest members are kept."""
    text = chain(*uids)
    assert len(text) <= 9 * MEMBERS_MAX
    assert [member(uid) for uid in uids[-MEMBERS_MAX:]] == [
        each for each in text.split(",") if each
    ]


@given(st.lists(st.floats(0.0, 0.5), min_size=1, max_size=100))
def test_no_more_than_the_rate_pass(pauses: list[float]) -> None:
    """In order, 0.1 s apart, and without a wait if no other reply is waiting."""
    pace, now, last = RateLimiter(10.0), 1000.0, 0.0
    for pause in pauses:
        now += pause
        at = now + pace.wait(now)
        assert at >= last + 0.0999
        assert at == now or at <= last + 0.1001
        last = at
