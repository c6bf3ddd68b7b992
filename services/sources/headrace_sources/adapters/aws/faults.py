"""What an error of AWS, or of its client library, means for a source."""

import re
from collections.abc import Mapping
from typing import Final

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
)

from headrace_sources.source import SourceFault

_TEXT_MAX: Final = 300
_MISSING_QUEUE: Final = frozenset(
    {"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist", "InvalidAddress"}
)
_REFUSED: Final = frozenset(
    {
        "AuthFailure",
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSecurity",
        "InvalidSignatureException",
        "MissingAuthenticationToken",
        "NotAuthorized",
        "OptInRequired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_DENIED: Final = frozenset({"AccessDenied", "AccessDeniedException", "KMS.AccessDeniedException"})
_INVALID: Final = frozenset({"InvalidParameterValue", "InvalidAttributeName", "ValidationError"})
_QUERY_CODE: Final = re.compile(r"<Code>([\w.]{1,100})</Code>\s*<Message>([^<]*)</Message>")
"""Of an error in the form of the query protocol, which some servers answer with, whatever protocol
the request has.
"""
_FORBIDDEN: Final = 403
_CLIENT_ERROR: Final = range(400, 500)
_TOO_MANY_REQUESTS: Final = 429


class AwsFault(SourceFault):
    """A call of AWS has failed. If it is `transient`, it may work later without a change by a
    user.
    """

    def __init__(self, reason: str, message: str, *, transient: bool = False) -> None:
        super().__init__(reason, message)
        self.transient = transient


def fault_of(error: BotoCoreError | ClientError | TimeoutError, target: str) -> AwsFault:
    """Return the fault for a call that has failed; `target` says what was called, such as `queue
    orders in eu-north-1`.
    """
    if isinstance(error, ClientError):
        return _of_answer(error, target)
    if isinstance(error, BotoCoreError) and isinstance(
        inner := error.kwargs.get("error"), AwsFault
    ):
        return inner
    if isinstance(error, NoCredentialsError | PartialCredentialsError | ProfileNotFound):
        return AwsFault(
            "CredentialsMissing",
            f"there are no credentials for {target}: {_text(str(error))}; name a Secret, or give"
            " the sources service credentials (AWS_ACCESS_KEY_ID, a profile, or a role)",
        )
    if isinstance(error, CredentialRetrievalError):
        return AwsFault(
            "CredentialsMissing",
            f"the credentials for {target} cannot be retrieved: {_text(str(error))}",
            transient=True,
        )
    if isinstance(error, EndpointConnectionError | ConnectTimeoutError | TimeoutError):
        return AwsFault(
            "Unreachable",
            f"{target} cannot be reached: {_text(str(error) or 'no answer in time')}; check the"
            " region, the endpoint and the network",
            transient=True,
        )
    return AwsFault(
        "RequestFailed", f"a request for {target} has failed: {_text(str(error))}", transient=True
    )


def _of_answer(error: ClientError, target: str) -> AwsFault:
    """The fault for an error that AWS has answered with."""
    response: Mapping[str, object] = error.response
    details, metadata = response.get("Error"), response.get("ResponseMetadata")
    code = str(details.get("Code", "")) if isinstance(details, Mapping) else ""
    said = str(details.get("Message", "")) if isinstance(details, Mapping) else ""
    if in_query_form := _QUERY_CODE.search(said):
        code, said = in_query_form.groups()
    said = _text(said)
    status = metadata.get("HTTPStatusCode") if isinstance(metadata, Mapping) else None
    action = error.operation_name
    if code in _MISSING_QUEUE:
        return AwsFault(
            "QueueNotFound",
            f"{target} does not exist; create it, or correct the name, the account and the region",
        )
    if code in _REFUSED:
        return AwsFault(
            "CredentialsRefused",
            f"AWS refuses the credentials for {target} ({code}); check the access key, the secret"
            " key and whether they have expired",
        )
    # Throttling and the limit of messages in flight have the status 403 too.
    if (
        code in _DENIED
        or code.startswith("KMS.")
        or (status == _FORBIDDEN and not _slow_down(code))
    ):
        return AwsFault(
            "PermissionDenied",
            f"the credentials may not call {action} for {target} ({code}): {said}; allow it in"
            " their policy",
        )
    if code in _INVALID:
        return AwsFault("InvalidRequest", f"AWS refuses {action} for {target} ({code}): {said}")
    permanent = status in _CLIENT_ERROR and status != _TOO_MANY_REQUESTS and not _slow_down(code)
    return AwsFault(
        "RequestFailed",
        f"{action} for {target} has failed ({code or status}): {said}",
        transient=not permanent,
    )


def _slow_down(code: str) -> bool:
    """Whether there are too many requests, or messages in flight."""
    return "Throttl" in code or code in ("OverLimit", "RequestLimitExceeded", "SlowDown")


def _text(message: str) -> str:
    """One line of a message, without what may be long."""
    return " ".join(message.split())[:_TEXT_MAX]
