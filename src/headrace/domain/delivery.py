"""How often, how soon and how long an event is tried: the policy, and the decision after each
attempt.

Facts of `docs/delivery.md`; the retryable set is the Knative data plane's (D6): no response, 5xx,
404, 408, 409, 429. What manifests say of it is `headrace.resources.delivery_spec`; what is written
into a dead letter is `headrace.domain.dead_letter`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from headrace.domain.retry_after import retry_after_seconds

JITTER_SHARE = 0.2
"""A backoff is spread by this share of itself in both directions, so that events failed together do
not come back together.
"""


class BackoffPolicy(StrEnum):
    """How the delay grows from one retry to the next."""

    LINEAR = "linear"
    """`delay` times n, n from 1."""
    EXPONENTIAL = "exponential"
    """`delay` times two to the n, n from 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryPolicy:
    """The effective policy of one subscription; durations in seconds. The defaults are what applies
    when nothing is said.
    """

    retry: int = 10
    """Retries after the first attempt; 0 is a choice, not an absence."""
    timeout_seconds: float = 30.0
    """Total deadline of one attempt."""
    backoff: BackoffPolicy = BackoffPolicy.EXPONENTIAL
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
    """The egress policy denies this address."""
    UNSUPPORTED_SCHEME = "unsupported-scheme"
    """The URL is neither http nor https: no attempt can be made."""


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
    """One sentence for operators when there is a failure."""
    lease: object = field(default=None, compare=False, repr=False)
    """Keeps the memory of a large body reserved: keep it as long as the body."""


class Verdict(StrEnum):
    """What an outcome means by itself, before the policy is asked."""

    DELIVERED = "delivered"
    RETRYABLE = "retryable"
    REJECTED = "rejected"
    """Trying again would not change it."""


class DeadLetterReason(StrEnum):
    """Why an event is in a dead letter topic. A closed set: it is a metric label and a private
    header.
    """

    REJECTED = "rejected"
    """The subscriber answered with a status that is never retried."""
    EXHAUSTED = "exhausted"
    """The last retry the policy allows has failed."""
    REFUSED = "refused"
    """The egress policy denies the subscriber's address."""
    UNSUPPORTED_SCHEME = "unsupported-scheme"
    """The URL is neither http nor https and can never be called."""
    REPLY_INVALID = "reply-invalid"
    """The subscriber's response was neither empty nor one CloudEvent."""
    REPLY_REJECTED = "reply-rejected"
    """The reply's destination answered with a status that is never retried, or accepts nothing that
    large.
    """
    REPLY_EXHAUSTED = "reply-exhausted"
    """The reply could not be stored or posted within the policy."""
    REPLY_LOOP = "reply-loop"
    """The reply came at the end of too long a chain of replies, or was part of a loop with too many
    replies waiting before it.
    """
    UNREADABLE = "unreadable"
    """The record is not a CloudEvent."""
    POISON = "poison"
    """The event loop stalled on this record more than twice, and its process was ended each
    time.
    """
    MISDIRECTED = "misdirected"
    """A retry record of another subscription (of a deleted one with the same name, say)."""


@dataclass(frozen=True, slots=True)
class Done:
    """Delivered. `reply` says whether the response may carry a reply event (a 202's body is not
    one; D7).
    """

    reply: bool = True


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again at `at` (Unix seconds), which will be attempt number `attempt`."""

    at: float
    wait_seconds: float
    attempt: int
    retry_after: bool = False
    """The subscriber's `Retry-After`, and not the backoff, set the time."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Give up and keep the event with its `reason`; `detail` is one sentence for operators."""

    reason: DeadLetterReason
    detail: str


Decision = Done | Retry | DeadLetter

_REPLIED = Done(reply=True)
_ACCEPTED = Done(reply=False)
_RETRYABLE = frozenset((404, 408, 409, 429))
_RETRY_AFTER = frozenset((429, 503))
_NEVER_RETRIED: Mapping[Failure | None, DeadLetterReason] = {
    Failure.REFUSED: DeadLetterReason.REFUSED,
    Failure.UNSUPPORTED_SCHEME: DeadLetterReason.UNSUPPORTED_SCHEME,
}
_EXPONENT_MAX = 60


def classify(outcome: Outcome) -> Verdict:
    """Say what an outcome means: 2xx is delivered; 404, 408, 409, 429, 5xx and no response are
    worth another attempt; nothing else is.
    """
    status = outcome.status
    if status is None:
        return Verdict.REJECTED if outcome.failure in _NEVER_RETRIED else Verdict.RETRYABLE
    if 200 <= status <= 299:
        return Verdict.DELIVERED
    if 500 <= status <= 599 or status in _RETRYABLE:
        return Verdict.RETRYABLE
    return Verdict.REJECTED


def decide(
    policy: DeliveryPolicy, attempt: int, outcome: Outcome, now: float, jitter: float
) -> Decision:
    """Decide what becomes of an event after an attempt.

    `attempt` counts the attempts made so far, this one included; `now` is Unix seconds; `jitter`,
    in [-1, 1], spreads the backoff. Raises ValueError for an attempt below 1 or a jitter outside
    its range.
    """
    status = outcome.status
    if status is not None and 200 <= status <= 299:
        return _ACCEPTED if status == 202 else _REPLIED
    if attempt < 1 or not -1.0 <= jitter <= 1.0:
        raise ValueError(
            f"attempt {attempt} must be at least 1 and jitter {jitter} within -1 and 1"
        )
    if classify(outcome) is Verdict.REJECTED:
        reason = _NEVER_RETRIED.get(outcome.failure, DeadLetterReason.REJECTED)
        return DeadLetter(reason, f"{describe(outcome)}, which is never retried")
    if attempt > policy.retry:
        return DeadLetter(
            DeadLetterReason.EXHAUSTED,
            f"{describe(outcome)} at attempt {attempt}, the last of {policy.retry + 1}",
        )
    wait = backoff_seconds(policy, attempt) * (1.0 + JITTER_SHARE * jitter)
    asked = _asked_seconds(policy, outcome, now)
    if asked > wait:
        return Retry(now + asked, asked, attempt + 1, retry_after=True)
    return Retry(now + wait, wait, attempt + 1)


def backoff_seconds(policy: DeliveryPolicy, retry: int) -> float:
    """Return the wait before the `retry`-th retry (from 1), without jitter, capped.

    The cap comes before the jitter: were it the other way round, every event at the cap would come
    back in step with the others.
    """
    factor = (
        float(retry)
        if policy.backoff is BackoffPolicy.LINEAR
        else 2.0 ** min(retry - 1, _EXPONENT_MAX)
    )
    return min(policy.delay_seconds * factor, policy.backoff_max_seconds)


def describe(outcome: Outcome) -> str:
    """Say in a few words what came back, without anything of the payload."""
    if outcome.failure is None:
        return f"status {outcome.status}"
    return f"{outcome.failure} ({outcome.detail})" if outcome.detail else str(outcome.failure)


def _asked_seconds(policy: DeliveryPolicy, outcome: Outcome, now: float) -> float:
    """What `Retry-After` asks for, cut to the policy's cap; 0.0 when it does not count. The header
    counts on 429 and 503 only (D6).
    """
    if outcome.status not in _RETRY_AFTER or policy.retry_after_max_seconds <= 0:
        return 0.0
    value = next((value for name, value in outcome.headers if name == b"retry-after"), None)
    asked = None if value is None else retry_after_seconds(value, now)
    return 0.0 if asked is None else min(asked, policy.retry_after_max_seconds)
