"""The delivery policy of a subscription, and the decision after each attempt.

`docs/delivery.md` describes the behaviour. The retryable outcomes are those of the Knative data
plane (D6): no response, 5xx, 404, 408, 409 and 429. `headrace.resources.delivery_spec` reads the
policy from manifests; `headrace.domain.dead_letter` builds the extensions of dead letters.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from headrace.domain.retry_after import retry_after_seconds

JITTER_SHARE = 0.2
"""A backoff varies by up to this share of its length in both directions, so that events that failed
at the same time are not retried at the same time.
"""


class BackoffPolicy(StrEnum):
    """How the delay grows from one retry to the next."""

    LINEAR = "linear"
    """`delay` times n, n from 1."""
    EXPONENTIAL = "exponential"
    """`delay` times two to the n, n from 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryPolicy:
    """The effective policy of one subscription; durations in seconds. The defaults apply where a
    manifest sets nothing.
    """

    retry: int = 10
    """Retries after the first attempt. 0 means no retries and is not replaced by the default."""
    timeout_seconds: float = 30.0
    """Total deadline of one attempt."""
    backoff: BackoffPolicy = BackoffPolicy.EXPONENTIAL
    delay_seconds: float = 0.2
    backoff_max_seconds: float = 600.0
    retry_after_max_seconds: float = 600.0
    """A longer `Retry-After` is reduced to this; 0 ignores the header."""


class Failure(StrEnum):
    """Why an attempt got no response."""

    CONNECT = "connect"
    TIMEOUT = "timeout"
    RESET = "reset"
    """The connection ended before the response was complete."""
    PROTOCOL = "protocol"
    """The response was not HTTP/1.1, or larger than the limit."""
    REFUSED = "refused"
    """The egress policy denies this address."""
    UNSUPPORTED_SCHEME = "unsupported-scheme"
    """The URL is neither http nor https, so no attempt can be made."""


@dataclass(slots=True)
class Outcome:
    """The result of an attempt: a response (`status`), or a `failure`; exactly one of them.

    Nothing changes it. It is not frozen because there is one per attempt, and `__init__` of a
    frozen class takes four times as long.
    """

    status: int | None = None
    headers: Sequence[tuple[bytes, bytes]] = ()
    """Response headers, names in lower case."""
    body: bytes = b""
    """At most as much as the sender reads; `truncated` says whether there was more."""
    truncated: bool = False
    failure: Failure | None = None
    detail: str = ""
    """If there was a failure, one sentence for operators."""
    lease: object = field(default=None, compare=False, repr=False)
    """Keeps the memory of a large body reserved. Hold it as long as the body."""


class Verdict(StrEnum):
    """What an outcome means, before the policy is applied."""

    DELIVERED = "delivered"
    RETRYABLE = "retryable"
    REJECTED = "rejected"
    """Another attempt would have the same result."""


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
    """The event was delivered. `reply` says whether the response may carry a reply event; the body
    of a 202 is not one (D16).
    """

    reply: bool = True


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again at `at` (Unix seconds), as attempt number `attempt`."""

    at: float
    wait_seconds: float
    attempt: int
    retry_after: bool = False
    """Whether the time comes from the subscriber's `Retry-After` and not from the backoff."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Give up and keep the event as a dead letter with its `reason`; `detail` is one sentence for
    operators.
    """

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
    """Classify an outcome. 2xx is delivered; 404, 408, 409, 429, 5xx and no response are retryable;
    everything else is rejected.
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
    """Decide what happens to an event after an attempt.

    `attempt` counts the attempts so far, including this one; `now` is Unix seconds; `jitter`, in
    [-1, 1], varies the backoff. Raises ValueError for an attempt below 1 or a jitter outside its
    range.
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
        # The reason is the name of the failure then.
        detail = outcome.detail if outcome.failure in _NEVER_RETRIED else ""
        return DeadLetter(reason, f"{detail or describe(outcome)}, which is never retried")
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
    """Return the wait before the `retry`-th retry (from 1), without jitter, limited by the policy's
    maximum.

    The maximum is applied before the jitter. Otherwise all events at the maximum would be retried
    at the same time.
    """
    factor = (
        float(retry)
        if policy.backoff is BackoffPolicy.LINEAR
        else 2.0 ** min(retry - 1, _EXPONENT_MAX)
    )
    return min(policy.delay_seconds * factor, policy.backoff_max_seconds)


def describe(outcome: Outcome) -> str:
    """Describe an outcome in a few words, without any part of the payload."""
    if outcome.failure is None:
        return f"status {outcome.status}"
    return f"{outcome.failure} ({outcome.detail})" if outcome.detail else str(outcome.failure)


def _asked_seconds(policy: DeliveryPolicy, outcome: Outcome, now: float) -> float:
    """Return the wait that `Retry-After` asks for, limited by the policy; 0.0 if it does not apply.
    The header applies to 429 and 503 only (D6).
    """
    if outcome.status not in _RETRY_AFTER or policy.retry_after_max_seconds <= 0:
        return 0.0
    value = next((value for name, value in outcome.headers if name == b"retry-after"), None)
    asked = None if value is None else retry_after_seconds(value, now)
    return 0.0 if asked is None else min(asked, policy.retry_after_max_seconds)
