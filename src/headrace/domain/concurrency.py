"""How many requests one subscriber gets at a time: as many as shorten its queue, no more than
lengthen its answers.

A subscriber that answers in a fifth of a millisecond needs few requests at once, and more of them
only queue in this event loop, where they delay other subscriptions. One that takes 50 ms
needs many. So the limit grows while answers come as fast as they did when few were out, and shrinks
when they take longer than twice that: what grew was a queue, ours or the subscriber's.
"""

QUEUEING_FACTOR = 2.0
GROWTH = 1.25
SHRINKAGE = 0.8
FORGET_ROUNDS = 256
"""Rounds after which the fastest answer is forgotten: a subscriber may have become slower
for good.
"""


class Concurrency:
    """The limit for one subscriber, between `floor` and `maximum`. A round is as many answers as
    may be out at a time.
    """

    __slots__ = (
        "_answers",
        "_fastest",
        "_fastest_next",
        "_rounds",
        "_seconds",
        "floor",
        "limit",
        "maximum",
    )

    def __init__(self, *, floor: int, maximum: int) -> None:
        if not 1 <= floor <= maximum:
            raise ValueError(
                f"a limit lies between 1 and its maximum: floor={floor}, maximum={maximum}"
            )
        self.floor = floor
        self.maximum = maximum
        self.limit = floor
        self._answers = 0
        self._seconds = 0.0
        self._rounds = 0
        self._fastest = self._fastest_next = float("inf")

    def answered(self, seconds: float) -> bool:
        """An answer took this long; return whether a round is over and `decide` should be called.
        About 0.2 microseconds.
        """
        self._answers += 1
        self._seconds += seconds
        if seconds < self._fastest_next:
            self._fastest_next = seconds
        return self._answers >= self.limit

    def decide(self, *, queued: bool) -> int:
        """Return the limit of the next round; `queued` says whether records waited for this one:
        without that there is nothing to gain.
        """
        average = self._seconds / self._answers if self._answers else 0.0
        self._answers, self._seconds = 0, 0.0
        self._rounds += 1
        self._fastest = min(self._fastest, self._fastest_next)
        if self._rounds % FORGET_ROUNDS == 0:
            self._fastest, self._fastest_next = self._fastest_next, float("inf")
        if average > self._fastest * QUEUEING_FACTOR:
            self.limit = max(self.floor, int(self.limit * SHRINKAGE))
        elif queued:
            self.limit = min(self.maximum, max(self.limit + 1, int(self.limit * GROWTH)))
        return self.limit
