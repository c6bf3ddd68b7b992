"""Error responses as `application/problem+json` (RFC 9457): what is wrong, which attribute or
limit, and whether to try again.
"""

import json
from enum import Enum
from typing import Any, Final

from headrace.adapters.http.server import Exchange, Fields

_CONTENT_TYPE: Final = (b"content-type", b"application/problem+json")
METHODS: Final = b"POST, OPTIONS"


class ProblemType(Enum):
    """Why an event was not accepted: the last part of the problem type, the title, and the label
    `reason` of the metric.
    """

    INVALID_EVENT = "invalid-event", "The request is not a valid CloudEvent"
    MALFORMED_REQUEST = "malformed-request", "The request is not well-formed HTTP"
    UNKNOWN_ADDRESS = "unknown-address", "Nothing takes events at this address"
    METHOD_NOT_ALLOWED = "method-not-allowed", "Events are sent with POST"
    FORBIDDEN = "forbidden", "The request may come from a web page"
    NOT_IMPLEMENTED = "not-implemented", "The request uses a part of HTTP that is not supported"
    TIMEOUT = "timeout", "The request came too slowly"
    TOO_LARGE = "too-large", "The request is larger than allowed"
    BATCH_TOO_LARGE = "batch-too-large", "The batch has too many events"
    UNSUPPORTED_CONTENT = (
        "unsupported-content",
        "The content is coded in a way that is not supported",
    )
    HEADERS_TOO_LARGE = "headers-too-large", "The header fields are too many or too large"
    NOT_READY = "not-ready", "The ingress cannot take events yet"
    ROUTES_UNCERTAIN = "routes-uncertain", "The routing table could not be brought up to date"
    NONCONFORMING_DATA = (
        "nonconforming-data",
        "The data does not conform to the schema of its type",
    )
    BACKLOG_FULL = "backlog-full", "Too many events wait to be stored"
    NOT_STORED = "not-stored", "The event could not be stored"
    OVERLOADED = "overloaded", "The ingress has too many requests in flight"
    INTERNAL = "internal", "The ingress failed"

    def __init__(self, slug: str, title: str) -> None:
        self.slug = slug
        self.title = title


_SERVER_PROBLEM_TYPES: Final = {
    400: ProblemType.MALFORMED_REQUEST,
    403: ProblemType.FORBIDDEN,
    408: ProblemType.TIMEOUT,
    413: ProblemType.TOO_LARGE,
    414: ProblemType.HEADERS_TOO_LARGE,
    417: ProblemType.MALFORMED_REQUEST,
    431: ProblemType.HEADERS_TOO_LARGE,
    500: ProblemType.INTERNAL,
    501: ProblemType.NOT_IMPLEMENTED,
    503: ProblemType.OVERLOADED,
    505: ProblemType.MALFORMED_REQUEST,
}


def server_problem_type(status: int) -> ProblemType:
    """Return the reason for a status that the HTTP server sends itself."""
    return _SERVER_PROBLEM_TYPES.get(status, ProblemType.MALFORMED_REQUEST)


def problem(reason: ProblemType, status: int, detail: str, **members: Any) -> bytes:
    """Return the body of a refusal, with a newline at the end for readers on a terminal. `members`
    are extension members; those that are None are left out.
    """
    document = {
        "type": f"urn:headrace:problem:{reason.slug}",
        "title": reason.title,
        "status": status,
        "detail": detail,
    }
    document.update((name, value) for name, value in members.items() if value is not None)
    return json.dumps(document).encode() + b"\n"


def fields(status: int, retry_after_seconds: int) -> Fields:
    """Return the header fields of a refusal: Retry-After for 503, Allow for 405."""
    if status == 503:
        return (_CONTENT_TYPE, (b"retry-after", b"%d" % retry_after_seconds))
    if status == 405:
        return (_CONTENT_TYPE, (b"allow", METHODS))
    return (_CONTENT_TYPE,)


def respond(
    exchange: Exchange,
    reason: ProblemType,
    status: int,
    detail: str,
    *,
    retry_after_seconds: int,
    **members: Any,
) -> None:
    """Refuse a request."""
    exchange.respond(
        status, fields(status, retry_after_seconds), problem(reason, status, detail, **members)
    )
