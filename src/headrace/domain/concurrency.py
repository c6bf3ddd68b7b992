"""The number of concurrent requests to one subscriber: enough to shorten its queue, but not so many
that its answers take longer.

A subscriber that answers in 0.2 ms needs few concurrent requests; more of them only queue in this
event loop and delay other subscriptions. A subscriber that takes 50 ms needs many. The limit
therefore grows while answers are as fast as they were with few requests, and shrinks when they take
more than twice as long, which means that requests are queued here or at the subscriber.
"""

QUEUEING_FACTOR = 2.0
GROWTH = 1.25
SHRINKAGE = 0.8
FORGET_ROUNDS = 256
"""Rounds after which the fastest answer is forgotten, because a subscriber may have become slower
permanently.
"""


class Concurrency:
    """The limit for one subscriber, between `floor` and `maximum`. A round consists of as many
    answers as the limit allows concurrently.
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
        """Record that an answer took `seconds`. Return whether the round is complete and `decide`
        should be called.

        Takes about 0.2 microseconds.
        """
        self._answers += 1
        self._seconds += seconds
        if seconds < self._fastest_next:
            self._fastest_next = seconds
        return self._answers >= self.limit

    def decide(self, *, queued: bool) -> int:
        """Return the limit for the next round.

        `queued` says whether records of this subscription had to wait. If none did, a higher limit
        would have no effect.
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
