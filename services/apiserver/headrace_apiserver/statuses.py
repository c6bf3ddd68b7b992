"""The `metav1.Status` documents of the API: the responses without an object, which kubectl, kn and
client libraries print and branch on.

Every failure of a request becomes a `StatusError`; the response is `error.status` with
`error.code`. Reasons, messages and details are those of the Kubernetes API server, because clients
compare them: a `reason` decides what `kubectl apply` does next, `details.causes` are printed line
by line, and `details.retryAfterSeconds` makes a client wait.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from headrace.resources.resource import ResourceKind

VALUE_INVALID = "FieldValueInvalid"
MANAGER_CONFLICT = "FieldManagerConflict"
_TRY_AGAIN_SECONDS = 1


class StatusCause(NamedTuple):
    """One of the problems of an object."""

    field: str
    """Path of the field, `spec.filters[0].exact`; empty for the object as a whole."""
    message: str
    reason: str = VALUE_INVALID


class StatusError(Exception):
    """The request fails with `status`. The text of the error is the message of the Status."""

    def __init__(self, status: Mapping[str, Any]) -> None:
        super().__init__(status["message"])
        self.status = status

    @property
    def code(self) -> int:
        """The HTTP status code."""
        return int(self.status["code"])

    @property
    def reason(self) -> str:
        """The machine-readable reason, `NotFound`."""
        return str(self.status["reason"])

    @property
    def retry_after_seconds(self) -> int | None:
        """Value of the `Retry-After` header if the client should try again."""
        seconds = self.status.get("details", {}).get("retryAfterSeconds")
        return int(seconds) if seconds else None


def failure(
    code: int, reason: str, message: str, details: Mapping[str, Any] | None = None
) -> StatusError:
    """A Status of a failure. As in Kubernetes, empty values are left out of the details, but `{}`
    stays.
    """
    status: dict[str, Any] = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
    }
    status |= {"message": message, "reason": reason}
    if details is not None:
        status["details"] = {key: value for key, value in details.items() if value}
    return StatusError({**status, "code": code})


def success(kind: ResourceKind, *, name: str, uid: str) -> dict[str, Any]:
    """The response to a delete after which the object is gone."""
    details = {"name": name, "group": kind.group, "kind": kind.plural, "uid": uid}
    details = {key: value for key, value in details.items() if value}
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": details,
    }


def bad_request(message: str) -> StatusError:
    """400: the request cannot be read or makes no sense."""
    return failure(400, "BadRequest", message)


def unauthorized() -> StatusError:
    """401: the user is not known. The response does not say why."""
    return failure(401, "Unauthorized", "Unauthorized")


def forbidden(
    kind: ResourceKind | None, name: str, why: str, *, causes: Sequence[StatusCause] = ()
) -> StatusError:
    """403: the user is known and may not do this, or the object is not allowed."""
    if kind is None:
        return failure(403, "Forbidden", f"forbidden: {why}", {})
    subject = f"{kind.qualified} {_quoted(name)}" if name else kind.qualified
    details = {**_about(kind, name), "causes": _causes(causes)}
    return failure(403, "Forbidden", f"{subject} is forbidden: {why}", details)


def not_found(kind: ResourceKind, name: str) -> StatusError:
    """404: no such object."""
    return failure(
        404, "NotFound", f"{kind.qualified} {_quoted(name)} not found", _about(kind, name)
    )


def no_such_path() -> StatusError:
    """404: no such kind, version or subresource."""
    return failure(404, "NotFound", "the server could not find the requested resource", {})


def not_allowed(kind: ResourceKind, verb: str) -> StatusError:
    """405: the kind does not have this verb (`patch`, `deletecollection`)."""
    return failure(
        405,
        "MethodNotAllowed",
        f"{verb} is not supported on resources of kind {_quoted(kind.qualified)}",
        _about(kind, ""),
    )


def method_not_allowed() -> StatusError:
    """405: no path has this method."""
    return failure(
        405,
        "MethodNotAllowed",
        "the server does not allow this method on the requested resource",
        {},
    )


def not_acceptable(media_types: Iterable[str]) -> StatusError:
    """406: the server has none of the media types that the client accepts."""
    return failure(
        406,
        "NotAcceptable",
        f"only the following media types are accepted: {', '.join(media_types)}",
    )


def already_exists(kind: ResourceKind, name: str) -> StatusError:
    """409: an object of this name exists."""
    return failure(
        409, "AlreadyExists", f"{kind.qualified} {_quoted(name)} already exists", _about(kind, name)
    )


def conflict(kind: ResourceKind, name: str, why: str) -> StatusError:
    """409: the write is based on another version of the object, or on another object of this
    name.
    """
    return failure(
        409,
        "Conflict",
        f"Operation cannot be fulfilled on {kind.qualified} {_quoted(name)}: {why}",
        _about(kind, name),
    )


def modified(kind: ResourceKind, name: str) -> StatusError:
    """409: the resourceVersion of the write is not that of the stored object."""
    return conflict(
        kind,
        name,
        "the object has been modified; please apply your changes to the latest version and try"
        " again",
    )


def apply_conflict(message: str, causes: Sequence[StatusCause]) -> StatusError:
    """409: a server-side apply without `force` sets fields of other managers."""
    return failure(409, "Conflict", message, {"causes": _causes(causes)})


def gone(message: str) -> StatusError:
    """410: what is requested no longer exists."""
    return failure(410, "Gone", message)


def expired(message: str) -> StatusError:
    """410: the resourceVersion or continue token is too old; the client must list again."""
    return failure(410, "Expired", message)


def too_large(message: str) -> StatusError:
    """413: the body exceeds a limit; the message states it."""
    return failure(413, "RequestEntityTooLarge", f"Request entity too large: {message}")


def unsupported_media_type(media_types: Iterable[str]) -> StatusError:
    """415: the path does not accept the media type of the body."""
    accepted = ", ".join(media_types)
    return failure(
        415,
        "UnsupportedMediaType",
        "the body of the request was in an unknown format - accepted media types include:"
        f" {accepted}",
    )


def invalid(kind: ResourceKind, name: str, causes: Sequence[StatusCause]) -> StatusError:
    """422: the object breaks the rules of its schema or kind."""
    qualified = f"{kind.kind}.{kind.group}" if kind.group else kind.kind
    details = {"name": name, "group": kind.group, "kind": kind.kind, "causes": _causes(causes)}
    return failure(
        422, "Invalid", f"{qualified} {_quoted(name)} is invalid: {_aggregate(causes)}", details
    )


def unprocessable(group: str, kind: str, causes: Sequence[StatusCause]) -> StatusError:
    """422: the options of a request contradict each other; `kind` is that of the options, such as
    `ListOptions`.
    """
    qualified = f"{kind}.{group}" if group else kind
    details = {"group": group, "kind": kind, "causes": _causes(causes)}
    return failure(422, "Invalid", f'{qualified} "" is invalid: {_aggregate(causes)}', details)


def too_many_requests(message: str, retry_after_seconds: int = _TRY_AGAIN_SECONDS) -> StatusError:
    """429: a limit is reached; the client should try again later."""
    return failure(429, "TooManyRequests", message, {"retryAfterSeconds": retry_after_seconds})


def internal(message: str) -> StatusError:
    """500: an internal error. `message` must not contain details, which belong in the log."""
    text = f"Internal error occurred: {message}"
    return failure(500, "InternalError", text, {"causes": [{"message": message}]})


def unavailable(message: str) -> StatusError:
    """503: another controller is the leader, or Kafka does not respond. Nothing was stored, and the
    same request may succeed later.
    """
    return failure(503, "ServiceUnavailable", message, {"retryAfterSeconds": _TRY_AGAIN_SECONDS})


def timed_out(message: str) -> StatusError:
    """504: what a read needs is not available in time."""
    return failure(504, "Timeout", f"Timeout: {message}", {"retryAfterSeconds": _TRY_AGAIN_SECONDS})


def outcome_unknown(message: str) -> StatusError:
    """504: it is not known whether the write was stored.

    Without Retry-After: clients such as client-go would repeat the write automatically, and a
    create with `generateName` could be stored twice.
    """
    return failure(504, "Timeout", f"Timeout: {message}")


def _about(kind: ResourceKind, name: str) -> dict[str, Any]:
    return {"name": name, "group": kind.group, "kind": kind.plural}


def _causes(causes: Iterable[StatusCause]) -> list[dict[str, str]]:
    return [
        {"reason": cause.reason, "message": cause.message, "field": cause.field} for cause in causes
    ]


def _aggregate(causes: Iterable[StatusCause]) -> str:
    # Each text once: a rule can be broken in several ways that have the same message.
    text = list(
        dict.fromkeys(
            f"{cause.field}: {cause.message}" if cause.field else cause.message for cause in causes
        )
    )
    return text[0] if len(text) == 1 else f"[{', '.join(text)}]"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
