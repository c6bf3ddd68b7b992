"""The lease: when a controller may become the leader."""

import pytest

from headrace.resources.lease import Lease, may_acquire, read_lease


@pytest.mark.parametrize(
    ("lease", "first", "unrenewed", "age", "expected"),
    [
        (None, True, 0.0, 0.0, True),
        (Lease("", 3), False, 0.0, 0.0, True),
        (Lease("me", 3), True, 0.0, 1.0, True),
        (Lease("me", 3), False, 1.0, 1.0, False),
        (Lease("other", 3), True, 1.0, 5.0, False),
        (Lease("other", 3), True, 1.0, 61.0, True),
        (Lease("other", 3), False, 1.0, 61.0, False),
        (Lease("other", 3), False, 8.1, 8.1, True),
    ],
    ids=[
        "none",
        "let go",
        "mine before a crash",
        "mine but fenced",
        "held",
        "long ago",
        "long ago but fenced",
        "stale",
    ],
)
def test_when_the_lease_may_be_acquired(
    *, lease: Lease | None, first: bool, unrenewed: float, age: float, expected: bool
) -> None:
    """At once if there is no holder or this process was the holder; else only if it was not renewed
    for a while.
    """
    assert expected == may_acquire(
        lease, me="me", first=first, unrenewed_seconds=unrenewed, age_seconds=age
    )


def test_a_lease_is_read_as_written_and_invalid_ones_are_refused() -> None:
    """An invalid lease must not be taken for a free one."""
    assert Lease("a", 2) == read_lease(Lease("a", 2).to_object())
    with pytest.raises(ValueError, match="holder and an epoch"):
        read_lease({"holder": "a"})
