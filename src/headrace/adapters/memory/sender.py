"""The in-memory sender: posts are not sent and end as scripted. The counterpart of
`headrace.adapters.http.client.HttpSender`.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from headrace.domain.delivery import Failure, Outcome
from headrace.domain.target_url import parse_target_url

Ending = Outcome | None
"""The result of a post; None means no response before its deadline."""


@dataclass(frozen=True, slots=True)
class SentRequest:
    """A post as passed to the sender."""

    url: str
    headers: bytes
    body: bytes
    timeout_seconds: float


@dataclass
class _Script:
    endings: Sequence[Ending]
    delay_seconds: float
    taken: int = 0

    def next(self) -> Ending:
        ending = self.endings[min(self.taken, len(self.endings) - 1)]
        self.taken += 1
        return ending


@dataclass
class MemorySender:
    """Implements `headrace.domain.ports.Sender`. Posts without a script are answered with 202."""

    sent: list[SentRequest] = field(default_factory=list)
    """Every post that got a connection, in that order."""
    in_flight: dict[str, int] = field(default_factory=dict)
    """Number of posts in flight, by URL."""
    denied: dict[str, str] = field(default_factory=dict)
    """URLs that an address policy denies, with the reason."""
    _scripts: dict[str, _Script] = field(default_factory=dict)

    def script(self, url: str, *endings: Ending, delay_seconds: float = 0.0) -> None:
        """Set the results of later posts to `url`, in this order, each after `delay_seconds`; the
        last one repeats.
        """
        if not endings:
            raise ValueError("a script needs at least one ending")
        self._scripts[url] = _Script(endings, delay_seconds)

    def target(
        self,
        url: str,
        *,
        connections_max: int,
        ca_certs: str | None = None,
        reply_bytes_max: Callable[[], int] | None = None,
    ) -> "MemoryTarget":
        """As `headrace.domain.ports.Sender.target`."""
        parse_target_url(url)
        if connections_max < 1:
            raise ValueError(f"connections_max is {connections_max}, at least 1 is needed")
        return MemoryTarget(self, url, connections_max)

    def next_ending(self, url: str) -> tuple[Ending, float]:
        """Return the next step of a script: a result and its delay."""
        script = self._scripts.get(url)
        return (
            (Outcome(status=202), 0.0) if script is None else (script.next(), script.delay_seconds)
        )

    async def stop(self) -> None:
        """As the HTTP sender's."""


class MemoryTarget:
    """Implements `headrace.domain.ports.Target`."""

    def __init__(self, sender: MemorySender, url: str, connections_max: int) -> None:
        self._sender = sender
        self._url = url
        self._connections_max = connections_max
        self._busy = 0
        self._waiting: deque[MemoryAttempt] = deque()
        self._closed = False
        self._loop = asyncio.get_running_loop()

    @property
    def denied(self) -> str:
        """As `headrace.domain.ports.Target.denied`."""
        return self._sender.denied.get(self._url, "")

    def post(
        self,
        headers: bytes,
        body: bytes,
        *,
        timeout_seconds: float,
        answered: Callable[[Outcome], None],
    ) -> "MemoryAttempt":
        """As `headrace.domain.ports.Target.post`."""
        attempt = MemoryAttempt(
            self, SentRequest(self._url, headers, body, timeout_seconds), answered
        )
        late = Outcome(failure=Failure.TIMEOUT, detail=f"no response within {timeout_seconds:g} s")
        attempt.timers.append(self._loop.call_later(timeout_seconds, attempt.finish, late))
        if self._closed:
            attempt.timers.append(
                self._loop.call_later(
                    0,
                    attempt.finish,
                    Outcome(failure=Failure.CONNECT, detail="the target was closed"),
                )
            )
        else:
            self._waiting.append(attempt)
            self._serve()
        return attempt

    def close(self) -> None:
        """As `headrace.domain.ports.Target.close`."""
        self._closed = True

    def released(self, attempt: "MemoryAttempt") -> None:
        """Release the connection of an attempt that has ended."""
        if attempt.busy:
            self._count(-1)
        elif attempt in self._waiting:
            self._waiting.remove(attempt)
        self._serve()

    def _serve(self) -> None:
        while self._waiting and self._busy < self._connections_max:
            attempt = self._waiting.popleft()
            attempt.busy = True
            self._count(1)
            self._sender.sent.append(attempt.request)
            ending, delay_seconds = self._sender.next_ending(self._url)
            if ending is not None:
                attempt.timers.append(self._loop.call_later(delay_seconds, attempt.finish, ending))

    def _count(self, change: int) -> None:
        self._busy += change
        self._sender.in_flight[self._url] = self._sender.in_flight.get(self._url, 0) + change


class MemoryAttempt:
    """Implements `headrace.domain.ports.Attempt`."""

    def __init__(
        self, target: MemoryTarget, request: SentRequest, answered: Callable[[Outcome], None]
    ) -> None:
        self.request = request
        self.busy = False
        self.timers: list[asyncio.TimerHandle] = []
        self._target = target
        self._answered: Callable[[Outcome], None] | None = answered

    def cancel(self) -> None:
        """As `headrace.domain.ports.Attempt.cancel`."""
        if self._answered is not None:
            self._release()

    def finish(self, outcome: Outcome) -> None:
        """End it with this outcome."""
        answered = self._answered
        if answered is not None:
            self._release()
            answered(outcome)

    def _release(self) -> None:
        self._answered = None
        for timer in self.timers:
            timer.cancel()
        self._target.released(self)
