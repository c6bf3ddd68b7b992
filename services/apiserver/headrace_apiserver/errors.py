"""Errors of the domain, the codec and the store as Status responses."""

import structlog

from headrace.codec.objects import InvalidObject, ObjectTooLarge
from headrace.domain.errors import (
    Conflict,
    HeadraceError,
    LogUnavailable,
    NotFound,
    OutcomeUnknown,
    RecordTooLarge,
    Temporary,
    Unstorable,
)
from headrace.resources.resource import AlreadyExists, ResourceKind
from headrace_apiserver.statuses import (
    StatusError,
    already_exists,
    bad_request,
    failure,
    internal,
    not_found,
    outcome_unknown,
    too_large,
    unavailable,
)

logger = structlog.get_logger(__name__)


def error_to_status(
    error: Exception, kind: ResourceKind | None = None, name: str = ""
) -> StatusError:
    """The response to a request about an object of `kind` that failed with `error`."""
    match error:
        case StatusError():
            return error
        case NotFound() if kind is not None:
            return not_found(kind, name)
        case AlreadyExists() if kind is not None:
            return already_exists(kind, name)
        case Conflict() if kind is not None:
            details = {"name": name, "group": kind.group, "kind": kind.plural}
            return failure(409, "Conflict", str(error), details)
        case ObjectTooLarge() | RecordTooLarge():
            return too_large(str(error))
        case InvalidObject():
            return bad_request(f"the object provided cannot be read: {error}")
        case Unstorable():
            return bad_request(str(error))
        case OutcomeUnknown():
            return outcome_unknown(str(error))
        case LogUnavailable() if "Kafka" not in str(error):
            return unavailable(f"Kafka is not available: {error}")
        case Temporary():
            return unavailable(str(error))
        case HeadraceError():
            return internal(str(error))
    logger.error("request_failed", error=repr(error), exc_info=error)
    return internal("see the log of the controller")
