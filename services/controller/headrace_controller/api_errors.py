"""Errors of the API as Kubernetes `Status` objects: what kubectl, kn and client libraries print and branch on."""

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from headrace.codec.objects import InvalidObject, ObjectTooLarge, write_object
from headrace.domain.admission import Misshapen, UnknownFields
from headrace.domain.errors import Conflict, HeadraceError, NotFound, Temporary
from headrace.domain.field_errors import InvalidResource
from headrace.domain.resources import AlreadyExists, ResourceKind

JSON = "application/json"

_REASONS = {
    400: "BadRequest",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    408: "Timeout",
    413: "RequestEntityTooLarge",
    415: "UnsupportedMediaType",
    422: "Invalid",
    500: "InternalError",
    503: "ServiceUnavailable",
}


class ApiError(Exception):
    """A request that is answered with a Status of this code."""

    def __init__(self, code: int, message: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.headers = dict(headers or {})


def status_response(
    code: int, message: str, *, reason: str = "", details: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """A failure Status."""
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason or _REASONS.get(code, "Unknown"),
        "code": code,
        **({"details": dict(details)} if details else {}),
    }
    return Response(write_object(body), status_code=code, media_type=JSON, headers=dict(headers or {}))


def error_response(error: Exception, kind: ResourceKind | None = None, name: str = "") -> Response:
    """The Status for an error of ours about a resource."""
    about: dict[str, Any] = {}
    if kind is not None:
        about = {"name": name, "group": kind.group, "kind": kind.plural}
        about = {key: value for key, value in about.items() if value}
    match error:
        case ApiError():
            return status_response(error.code, str(error), headers=error.headers)
        case NotFound():
            return status_response(404, str(error), details=about)
        case AlreadyExists():
            return status_response(409, str(error), reason="AlreadyExists", details=about)
        case Conflict():
            return status_response(409, str(error), reason="Conflict", details=about)
        case InvalidResource():
            causes = [
                {"reason": "FieldValueInvalid", "message": each.message + (f" ({each.details})" if each.details else ""), "field": path}
                for each in error.errors
                for path in each.paths or ("",)
            ]
            return status_response(400, f"validation failed: {error}", details={**about, "causes": causes})
        case UnknownFields():
            return status_response(400, str(error), details=about)
        case Misshapen():
            causes = [{"reason": "FieldValueInvalid", "message": each.message, "field": each.field} for each in error.causes]
            return status_response(422, str(error), details={**about, "causes": causes})
        case ObjectTooLarge():
            return status_response(413, f"Request entity too large: {error}")
        case InvalidObject():
            return status_response(400, f"the object provided cannot be read: {error}")
        case Temporary():
            return status_response(503, str(error), details=about, headers={"Retry-After": "1"})
        case HeadraceError():
            return status_response(500, str(error), details=about)
    return status_response(500, "an internal error; the controller's log has it")
