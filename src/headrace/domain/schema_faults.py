"""The newest event of each addressable that did not conform to its schema and was accepted all the
same, which a process reports to the controller.

A report changes the status of a resource, so it changes at most once in `REPORT_SECONDS`, however
many events do not conform.
"""

from collections.abc import Collection, Mapping

REPORT_SECONDS = 10.0
FORGET_SECONDS = 600.0
"""After the last such event."""
REPORTED_MAX = 100
"""Addressables in one report; those with the newest faults."""
TEXT_MAX = 400
"""Characters of one fault."""


class SchemaFaults:
    """The faults of one process. `now` is monotonic, in seconds, as in the other arguments."""

    def __init__(self) -> None:
        self._newest: dict[str, tuple[float, str]] = {}
        """By uid, the one that happened last is at the end: time and text."""
        self._shown: dict[str, tuple[float, str]] = {}
        """What is reported, and since when."""

    def note(self, uid: str, text: str, now: float) -> None:
        """Remember a fault of this addressable."""
        self._newest.pop(uid, None)
        self._newest[uid] = (now, text[:TEXT_MAX])

    def keep(self, uids: Collection[str]) -> None:
        """Forget all other addressables."""
        self._newest = {uid: each for uid, each in self._newest.items() if uid in uids}

    def current(self, now: float) -> Mapping[str, str]:
        """Return what to report, by uid."""
        self._newest = {
            uid: each for uid, each in self._newest.items() if now - each[0] < FORGET_SECONDS
        }
        shown = {}
        for uid in list(self._newest)[-REPORTED_MAX:]:
            before = self._shown.get(uid)
            is_due = before is None or now - before[0] >= REPORT_SECONDS
            shown[uid] = (now, self._newest[uid][1]) if is_due or before is None else before
        self._shown = shown
        return {uid: text for uid, (_, text) in shown.items()}
