"""Every answer of the API that is not an object: the `metav1.Status` bodies that kubectl, kn and
client libraries print and branch on.

What goes wrong anywhere in the API becomes a `StatusError`, which is its Status; whoever answers
the request writes `error.status` with `error.code`. Reasons, messages and details are those of the
Kubernetes API server, because clients compare them: a `reason` decides what `kubectl apply` does
next, `details.causes` are printed line by line, `details.retryAfterSeconds` makes a client wait.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from headrace.resources.resource import ResourceKind

VALUE_INVALID = "FieldValueInvalid"
MANAGER_CONFLICT = "FieldManagerConflict"
_TRY_AGAIN_SECONDS = 1


class StatusCause(NamedTuple):
    """One of several things that are wrong with an object."""

    field: str
    """Path of the field, `spec.filters[0].exact`; empty for the object as a whole."""
    message: str
    reason: str = VALUE_INVALID


class StatusError(Exception):
    """A request that is answered with `status`, a Failure; the text of the error is the Status'
    message.
    """

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
        """Value of a `Retry-After` header, when the client had better try again."""
        seconds = self.status.get("details", {}).get("retryAfterSeconds")
        return int(seconds) if seconds else None


def failure(
    code: int, reason: str, message: str, details: Mapping[str, Any] | None = None
) -> StatusError:
    """A Failure. Empty details are left out of the body, and so are details that are empty text, as
    Kubernetes leaves them out.
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
    """What a delete answers when the object is gone."""
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
    """400: the request cannot be read, or asks what cannot be asked."""
    return failure(400, "BadRequest", message)


def unauthorized() -> StatusError:
    """401: who asks is not known. Says nothing about why."""
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
    """406: none of the media types the client accepts can be made."""
    return failure(
        406,
        "NotAcceptable",
        f"only the following media types are accepted: {', '.join(media_types)}",
    )


def already_exists(kind: ResourceKind, name: str) -> StatusError:
    """409: a create met an object of this name."""
    return failure(
        409, "AlreadyExists", f"{kind.qualified} {_quoted(name)} already exists", _about(kind, name)
    )


def conflict(kind: ResourceKind, name: str, why: str) -> StatusError:
    """409: the write was made from another version of the object, or for another object of this
    name.
    """
    return failure(
        409,
        "Conflict",
        f"Operation cannot be fulfilled on {kind.qualified} {_quoted(name)}: {why}",
        _about(kind, name),
    )


def modified(kind: ResourceKind, name: str) -> StatusError:
    """409: the resourceVersion of the write is not the stored one."""
    return conflict(
        kind,
        name,
        "the object has been modified; please apply your changes to the latest version and try"
        " again",
    )


def apply_conflict(message: str, causes: Sequence[StatusCause]) -> StatusError:
    """409: a server-side apply wants fields that others own and was not told to force."""
    return failure(409, "Conflict", message, {"causes": _causes(causes)})


def gone(message: str) -> StatusError:
    """410: what is asked for was there once."""
    return failure(410, "Gone", message)


def expired(message: str) -> StatusError:
    """410: a resourceVersion or continue token is too old; the client must list again."""
    return failure(410, "Expired", message)


def too_large(message: str) -> StatusError:
    """413: the body exceeds a limit, which the message names."""
    return failure(413, "RequestEntityTooLarge", f"Request entity too large: {message}")


def unsupported_media_type(media_types: Iterable[str]) -> StatusError:
    """415: the body has a type this path does not take."""
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
    """422: options of a request contradict each other; `kind` is that of the options,
    `ListOptions`.
    """
    qualified = f"{kind}.{group}" if group else kind
    details = {"group": group, "kind": kind, "causes": _causes(causes)}
    return failure(422, "Invalid", f'{qualified} "" is invalid: {_aggregate(causes)}', details)


def too_many_requests(message: str, retry_after_seconds: int = _TRY_AGAIN_SECONDS) -> StatusError:
    """429: later, please."""
    return failure(429, "TooManyRequests", message, {"retryAfterSeconds": retry_after_seconds})


def internal(message: str) -> StatusError:
    """500: an internal error. `message` must not hold what only the log may know."""
    text = f"Internal error occurred: {message}"
    return failure(500, "InternalError", text, {"causes": [{"message": message}]})


def unavailable(message: str) -> StatusError:
    """503: somebody else writes, or the log does not answer; nothing was stored and the same
    request may succeed later.
    """
    return failure(503, "ServiceUnavailable", message, {"retryAfterSeconds": _TRY_AGAIN_SECONDS})


def timed_out(message: str) -> StatusError:
    """504: what a read asked for did not come in time."""
    return failure(504, "Timeout", f"Timeout: {message}", {"retryAfterSeconds": _TRY_AGAIN_SECONDS})


def outcome_unknown(message: str) -> StatusError:
    """504: whether the write was stored is not known.

    Without a time to retry after: clients such as client-go would send the write again by
    themselves, and a create with `generateName` could be stored twice.
    """
    return failure(504, "Timeout", f"Timeout: {message}")


def _about(kind: ResourceKind, name: str) -> dict[str, Any]:
    return {"name": name, "group": kind.group, "kind": kind.plural}


def _causes(causes: Iterable[StatusCause]) -> list[dict[str, str]]:
    return [
        {"reason": cause.reason, "message": cause.message, "field": cause.field} for cause in causes
    ]


def _aggregate(causes: Iterable[StatusCause]) -> str:
    # The same text twice is told once: a rule may be broken in several ways that read alike.
    text = list(
        dict.fromkeys(
            f"{cause.field}: {cause.message}" if cause.field else cause.message for cause in causes
        )
    )
    return text[0] if len(text) == 1 else f"[{', '.join(text)}]"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
