"""Named places in the code where a test can kill the process or block its event loop. Random kills
seldom hit such small windows.

`HEADRACE_CRASH_AT=after-post-before-commit:3` with `HEADRACE_TEST=1` ends the process with SIGKILL
when it reaches that point for the third time. Without both variables, `failpoint` returns after one
comparison.

`HEADRACE_STALL_ON=orders-17` with `HEADRACE_TEST=1` blocks the loop when it processes the item with
this name, the id of an event or a service. The loop computes in one C call that holds the
interpreter lock, or waits for a lock with `HEADRACE_STALL_HOW=wait`.
"""

import os
import re
import signal
import threading
from collections.abc import Mapping
from enum import StrEnum


class Failpoint(StrEnum):
    """The points at which the data plane and the controller can crash; each has a separate test."""

    BEFORE_PRODUCE = "before-produce"
    """Ingress: the event is checked; nothing is sent to the log yet."""
    AFTER_PRODUCE = "after-produce"
    """Ingress: the log has the event; the 202 is not written."""
    AFTER_POLL = "after-poll"
    """Feed: records were read; none is delivered to the caller."""
    BEFORE_POST = "before-post"
    """Dispatcher: a record matched, its request is not sent."""
    AFTER_POST = "after-post-before-commit"
    """Dispatcher: the subscriber answered, the record is not done."""
    BEFORE_RETRY_RECORD = "before-retry-record"
    """Dispatcher: the attempt failed, the retry record is not written."""
    AFTER_RETRY_RECORD = "after-retry-record-before-commit"
    """Dispatcher: the retry record is stored, its source is not done."""
    BEFORE_DEAD_LETTER = "before-dead-letter"
    """Dispatcher: attempts are used up, the dead letter is not written."""
    AFTER_DEAD_LETTER = "after-dead-letter-before-commit"
    """Dispatcher: the dead letter is stored, its source is not done."""
    IN_DELAY_READER = "in-delay-reader"
    """Dispatcher: a record whose delay is over was moved on, its source is not done."""
    AFTER_REPLY = "after-reply-before-commit"
    """Dispatcher: the reply is stored, the event it answers is not done."""
    IN_DEAD_LETTER_SINK = "in-dead-letter-sink"
    """Dispatcher: the dead letter sink answered, its record is not done."""
    IN_REVOKE = "in-revoke-before-commit"
    """Feed: partitions are drained for another consumer; offsets are not committed."""
    AFTER_COMMIT = "after-commit"
    """Feed: offsets were committed; nothing else has happened since."""
    AFTER_TOPICS = "after-topics"
    """Controller: topics exist, start offsets are not committed."""
    AFTER_START_OFFSETS = "after-start-offsets"
    """Controller: start offsets are committed, the routing record is not written."""
    AFTER_ROUTING_RECORD = "after-routing-record"
    """Controller: the routing record is written, the status is not."""
    AFTER_TOMBSTONE = "after-tombstone"
    """Controller: a removed subscription's tombstone is written, its group and topics are not
    deleted.
    """


class _ArmedFailpoint:
    """The configuration of this process: the crash point, how many passes remain, and the name that
    blocks the loop.
    """

    __slots__ = ("passages", "point", "stall", "waits")

    def __init__(self) -> None:
        self.point: Failpoint | None = None
        self.passages = 0
        self.stall: str | None = None
        self.waits = False


_armed = _ArmedFailpoint()


def failpoint(point: Failpoint) -> None:
    """Pass this point. Ends the process if it is configured to crash at this pass."""
    if _armed.point is None or _armed.point != point:
        return
    _armed.passages -= 1
    if _armed.passages <= 0:
        os.kill(os.getpid(), signal.SIGKILL)


def is_set(*points: Failpoint) -> bool:
    """Return whether the process is configured to crash at one of these points."""
    return _armed.point in points


def stall_point(name: str) -> None:
    """Process the item with this name. Blocks the loop if configured to do so."""
    if _armed.stall is None or _armed.stall != name:
        return
    if _armed.waits:
        threading.Event().wait()
    re.match(r"(a+)+$", "a" * 64 + "b")


def stall_points_armed() -> bool:
    """Return whether `stall_point` can have an effect. Hot paths ask this once instead of for each
    event.
    """
    return _armed.stall is not None


def arm(environ: Mapping[str, str]) -> None:
    """Read the environment variables. Raises ValueError for an unknown crash point: a test whose
    failpoint never fires proves nothing.
    """
    _armed.stall = (
        (environ.get("HEADRACE_STALL_ON") or None) if environ.get("HEADRACE_TEST") == "1" else None
    )
    _armed.waits = environ.get("HEADRACE_STALL_HOW") == "wait"
    wanted = environ.get("HEADRACE_CRASH_AT", "")
    if not wanted or environ.get("HEADRACE_TEST") != "1":
        _armed.point = None
        return
    name, _, passage = wanted.partition(":")
    known = [point.value for point in Failpoint]
    if name not in known:
        raise ValueError(
            f"HEADRACE_CRASH_AT names no crash point: {name!r}; known: {', '.join(known)}"
        )
    _armed.point, _armed.passages = Failpoint(name), int(passage or "1")


arm(os.environ)
