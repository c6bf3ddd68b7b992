"""How often, how soon and how long an event is tried: the delivery policy and the decision after each attempt.

Facts of `docs/delivery.md`; the retryable set is the Knative data plane's (D6): no response, 5xx, 404, 408, 409, 429.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Backoff(StrEnum):
    """How the delay grows from one retry to the next."""

    LINEAR = "linear"
    """`delay` times n, n from 1."""
    EXPONENTIAL = "exponential"
    """`delay` times two to the n, n from 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryPolicy:
    """The effective policy of one subscription; durations in seconds. The defaults are what applies when nothing is said."""

    retry: int = 10
    """Retries after the first attempt; 0 is a choice, not an absence."""
    timeout_seconds: float = 30.0
    """Total deadline of one attempt."""
    backoff: Backoff = Backoff.EXPONENTIAL
    delay_seconds: float = 0.2
    backoff_max_seconds: float = 600.0
    retry_after_max_seconds: float = 600.0
    """A longer `Retry-After` is cut to this; 0 ignores the header."""


class Failure(StrEnum):
    """Why an attempt brought no response."""

    CONNECT = "connect"
    TIMEOUT = "timeout"
    RESET = "reset"
    """The connection ended before a whole response."""
    PROTOCOL = "protocol"
    """What came was not HTTP/1.1, or larger than we read."""
    REFUSED = "refused"
    """Our own policy forbids this address."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an attempt brought: a response (`status`), or a `failure`; exactly one of them."""

    status: int | None = None
    headers: Sequence[tuple[bytes, bytes]] = ()
    """Response headers, names in lower case."""
    body: bytes = b""
    """At most what the sender reads; `truncated` says there was more."""
    truncated: bool = False
    failure: Failure | None = None
    detail: str = ""
    """One sentence for people when there is a failure."""
