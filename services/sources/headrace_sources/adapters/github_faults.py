"""What the answers of GitHub's REST API mean that are no success, and what to do about them."""

import json
from collections.abc import Mapping
from typing import Final

from headrace.adapters.http.request import HttpAnswer
from headrace_sources.source import SourceFault

WEBHOOK_CONFIGURED: Final = "WebhookConfigured"
UNAVAILABLE: Final = "GitHubUnavailable"
RATE_LIMITED: Final = "RateLimited"
TEMPORARY: Final = (UNAVAILABLE, RATE_LIMITED)
"""Reasons after which the same request may work."""
_DETAIL_MAX: Final = 300
_RATE_SECONDS: Final = 60.0
"""How long to wait when an answer limits the rate and does not say for how long."""
_RATE_SECONDS_MAX: Final = 3_600.0


class GitHubFault(SourceFault):
    """A request to GitHub has failed. `wait` is how long no further one may be sent, in seconds;
    `status` that of the answer, 0 if there was none.
    """

    def __init__(self, reason: str, message: str, *, status: int = 0, wait: float = 0.0) -> None:
        super().__init__(reason, message, condition=WEBHOOK_CONFIGURED)
        self.status = status
        self.wait = wait


def fault_of(answer: HttpAnswer, what: str, right: str, now: float) -> GitHubFault:
    """Return the fault that an answer with another status than 2xx is.

    `what` is what the hook belongs to, `right` the right of the token that it needs, `now` the Unix
    time.
    """
    status = answer.status
    if wait := _rate_limit(answer, now):
        return GitHubFault(
            RATE_LIMITED,
            f"GitHub limits the rate of requests with this token; tried again in {wait:.0f} s",
            status=status,
            wait=wait,
        )
    if status in _FAULTS:
        reason, text = _FAULTS[status]
    elif 300 <= status < 400:
        reason, text = _MOVED
    else:
        reason, text = UNAVAILABLE, "GitHub answered {status}: {detail}"
    detail = _detail(answer.body)
    message = text.format(status=status, detail=detail, what=what, right=right)
    return GitHubFault(reason, message, status=status)


def _rate_limit(answer: HttpAnswer, now: float) -> float:
    """Seconds to wait before the next request; 0 if the answer does not limit the rate."""
    headers = answer.headers
    if answer.status not in (403, 429):
        return 0.0
    if (after := headers.get("retry-after", "")).isdecimal():
        return min(float(after) + 1.0, _RATE_SECONDS_MAX)
    if headers.get("x-ratelimit-remaining") == "0":
        reset = headers.get("x-ratelimit-reset", "")
        seconds = float(reset) - now if reset.isdecimal() else _RATE_SECONDS
        return min(max(seconds, 1.0), _RATE_SECONDS_MAX)
    return _RATE_SECONDS if answer.status == 429 else 0.0


def _detail(body: bytes) -> str:
    """What an error answer of GitHub says."""
    try:
        found = json.loads(body)
    except ValueError:
        return _NO_REASON
    if not isinstance(found, Mapping):
        return _NO_REASON
    errors = found.get("errors")
    texts = [str(found.get("message") or _NO_REASON)]
    texts += [
        str(each.get("message") or each.get("code") if isinstance(each, dict) else each)
        for each in (errors if isinstance(errors, list) else ())
    ]
    return ", ".join(texts)[:_DETAIL_MAX]


_NO_REASON: Final = "no reason is given"
_FAULTS: Final[Mapping[int, tuple[str, str]]] = {
    401: (
        "CredentialRefused",
        "GitHub refuses the access token; put a valid one into the Secret of"
        " spec.accessToken: {detail}",
    ),
    403: (
        "MissingRight",
        "the access token may not manage the webhooks of {what}; it needs the right {right}:"
        " {detail}",
    ),
    404: (
        "NotFound",
        "GitHub has no {what}, or the access token may not see its webhooks; check"
        " spec.ownerAndRepository and spec.githubAPIURL, and that the token has the right {right}",
    ),
    422: (
        "WebhookRefused",
        "GitHub refuses the webhook: {detail}. The URL must be reachable from GitHub"
        " (HEADRACE_SOURCES_PUBLIC_URL), and the event types must be ones of {what}",
    ),
}
_MOVED: Final = (
    "Moved",
    "GitHub has {what} under another name now; change spec.ownerAndRepository to it",
)
