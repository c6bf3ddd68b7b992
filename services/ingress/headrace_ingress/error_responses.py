"""Error responses: each sends one problem document and is counted once."""

import time
from typing import Any

import structlog

from headrace.adapters.http.server import Exchange, Fields, RequestRejected
from headrace.domain.errors import HeadraceError, LogFull, RecordTooLarge
from headrace.domain.event import BatchTooLarge, InvalidEvent, UnsupportedContent
from headrace_ingress.metrics import IngressMetrics
from headrace_ingress.problems import ProblemType, fields, problem, respond, server_problem_type
from headrace_ingress.route_cache import RouteEntry
from headrace_ingress.schema_checks import SchemaFailure

logger = structlog.get_logger(__name__)

_LOG_SECONDS = 1.0


class ErrorResponses:
    """Answers requests with an error and counts them."""

    def __init__(self, metrics: IngressMetrics, *, retry_after_seconds: int) -> None:
        self._metrics = metrics
        self._retry_after_seconds = retry_after_seconds
        self._logged_at = -_LOG_SECONDS
        self._not_logged = 0

    def reject(
        self,
        exchange: Exchange,
        route: RouteEntry | None,
        reason: ProblemType,
        status: int,
        detail: str,
        **members: Any,
    ) -> None:
        """Refuse for any reason. `route` is None when the request reached no addressable;
        `members` are extension members of the problem document.
        """
        self._metrics.count_refusal(None if route is None else route.addressable, status, reason)
        respond(
            exchange,
            reason,
            status,
            detail,
            retry_after_seconds=self._retry_after_seconds,
            **members,
        )

    def from_server(self, refusal: RequestRejected) -> tuple[Fields, bytes]:
        """Return the header fields and the body for a refusal by the HTTP server itself."""
        status, reason = refusal.status, server_problem_type(refusal.status)
        self._metrics.count_refusal(None, status, reason)
        return fields(status, self._retry_after_seconds), problem(
            reason, status, refusal.detail, limit=refusal.limit
        )

    def invalid(
        self,
        exchange: Exchange,
        route: RouteEntry,
        error: InvalidEvent | BatchTooLarge | UnsupportedContent,
    ) -> None:
        """Refuse a request that is not a valid CloudEvent, or not in a supported form."""
        match error:
            case InvalidEvent():
                self.reject(
                    exchange,
                    route,
                    ProblemType.INVALID_EVENT,
                    400,
                    str(error),
                    attribute=error.attribute,
                    index=error.index,
                )
            case BatchTooLarge():
                self.reject(
                    exchange,
                    route,
                    ProblemType.BATCH_TOO_LARGE,
                    413,
                    str(error),
                    limit=error.events_max,
                )
            case UnsupportedContent():
                self.reject(
                    exchange,
                    route,
                    ProblemType.UNSUPPORTED_CONTENT,
                    415,
                    str(error),
                    header=error.header,
                )

    def too_large(
        self, exchange: Exchange, route: RouteEntry, limit: int, *, index: int | None = None
    ) -> None:
        """Refuse an event above `limit` bytes; `index` is its position in a batch."""
        detail = (
            f"the event is larger than {limit} bytes, headers and data together, the limit here"
        )
        self.reject(exchange, route, ProblemType.TOO_LARGE, 413, detail, limit=limit, index=index)

    def nonconforming(
        self, exchange: Exchange, route: RouteEntry, failure: SchemaFailure, index: int | None
    ) -> None:
        """Refuse an event whose data does not conform to the schema of its type."""
        violation = failure.violation
        self.reject(
            exchange,
            route,
            ProblemType.NONCONFORMING_DATA,
            400,
            str(failure),
            attribute=failure.attribute,
            eventType=failure.schema.type,
            path=violation.path,
            rule=violation.rule,
            schemaPath=violation.schema_path or None,
            schema=failure.resource,
            index=index,
        )

    def not_stored(self, exchange: Exchange, route: RouteEntry, error: HeadraceError) -> None:
        """Refuse a request whose events the log did not store."""
        match error:
            case LogFull():
                detail = f"{error.bytes_max} bytes of events wait to be stored; send it again later"
                self.reject(
                    exchange, route, ProblemType.BACKLOG_FULL, 503, detail, limit=error.bytes_max
                )
            case RecordTooLarge():
                self.too_large(exchange, route, error.size_max)
            case _:
                self._log_not_stored(error)
                self.reject(
                    exchange,
                    route,
                    ProblemType.NOT_STORED,
                    503,
                    "Kafka did not store the event; send it again later",
                )

    def _log_not_stored(self, error: HeadraceError) -> None:
        now = time.monotonic()
        self._not_logged += 1
        # An outage refuses thousands of events a second. The metric counts them; one log line a
        # second is enough.
        if now - self._logged_at >= _LOG_SECONDS:
            logger.warning("events_not_stored", error=str(error), events=self._not_logged)
            self._logged_at, self._not_logged = now, 0
