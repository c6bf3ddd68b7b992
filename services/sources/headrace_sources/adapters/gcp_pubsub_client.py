"""Connecting to Google Cloud Pub/Sub: where it is, who asks, and what its errors mean.

With `PUBSUB_EMULATOR_HOST` in the environment, the emulator at that address is used, and no
credentials. Otherwise they are those of a Secret (a key of a service account), or what the
environment has (Application Default Credentials).
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import google.auth
import grpc
from google.api_core import exceptions
from google.auth.exceptions import GoogleAuthError
from google.oauth2 import service_account
from google.pubsub_v1.services.subscriber import SubscriberAsyncClient
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcAsyncIOTransport

from headrace_sources.source import SecretKeyRef, SourceContext, SourceFault

HOST: Final = "pubsub.googleapis.com:443"
EMULATOR: Final = "PUBSUB_EMULATOR_HOST"
PROJECT: Final = "GOOGLE_CLOUD_PROJECT"
SCOPES: Final = ("https://www.googleapis.com/auth/pubsub",)
CALL_SECONDS: Final = 10.0
"""Deadline of one request."""
CREDENTIALS_SECONDS: Final = 15.0
"""Deadline for finding credentials in the environment, which may ask the metadata server."""
RESPONSE_BYTES_MAX: Final = 32 * 1024 * 1024
"""A message has at most 10 MB."""
_OPTIONS: Final = (("grpc.max_receive_message_length", RESPONSE_BYTES_MAX),)
_TEXT_MAX: Final = 300

Errors = (exceptions.GoogleAPIError, GoogleAuthError, TimeoutError)
"""What a request raises."""


@dataclass(frozen=True, slots=True)
class Connection:
    """A client, and the project of its credentials, if they have one."""

    client: SubscriberAsyncClient
    project: str


@asynccontextmanager
async def connect(context: SourceContext, secret: SecretKeyRef | None) -> AsyncIterator[Connection]:
    """Create a client with the credentials of a Secret or of the environment. No request is sent
    yet. Raises `SourceFault` if there are no credentials, or they are none.
    """
    emulator = os.environ.get(EMULATOR)
    project = os.environ.get(PROJECT, "")
    if emulator:
        channel = grpc.aio.insecure_channel(emulator, options=_OPTIONS)
    else:
        if secret is not None:
            credentials, found = credentials_of_key(await context.secret(secret), secret)
        else:
            credentials, found = await _environment_credentials()
        project = found or project
        channel = SubscriberGrpcAsyncIOTransport.create_channel(
            HOST, credentials=credentials, options=_OPTIONS
        )
    try:
        transport = SubscriberGrpcAsyncIOTransport(channel=channel)
        yield Connection(SubscriberAsyncClient(transport=transport), project)
    finally:
        await channel.close()


def credentials_of_key(key: bytes, secret: SecretKeyRef) -> tuple[service_account.Credentials, str]:
    """The credentials, and their project, in a key of a service account (JSON).

    They sign their own tokens: the key decides no address that this process would ask for one.
    Other kinds of credentials in JSON may name addresses, files and programs, and are refused.
    """
    place = f"key {secret.key} of Secret {secret.name}"
    advice = "create one with `gcloud iam service-accounts keys create`"
    try:
        content: Any = json.loads(key)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise SourceFault("CredentialsInvalid", f"{place} is not JSON; {advice}")
    if content.get("type") != "service_account":
        raise SourceFault(
            "CredentialsInvalid",
            f"{place} is not the key of a service account (its `type` is not service_account);"
            f" {advice}",
        )
    try:
        credentials = service_account.Credentials.from_service_account_info(  # type: ignore[no-untyped-call]
            content, scopes=SCOPES, always_use_jwt_access=True
        )
    except (ValueError, TypeError, AttributeError):
        # The message of the library may quote the key.
        raise SourceFault(
            "CredentialsInvalid",
            f"{place} is not a complete key of a service account (private_key, client_email,"
            f" token_uri); {advice}",
        ) from None
    return credentials, str(content.get("project_id") or "")


async def _environment_credentials() -> tuple[Any, str]:
    """Application Default Credentials. The library blocks, so a thread finds them."""
    try:
        async with asyncio.timeout(CREDENTIALS_SECONDS):
            found = await asyncio.to_thread(google.auth.default, scopes=SCOPES)
    except (GoogleAuthError, TimeoutError, OSError):
        raise SourceFault(
            "CredentialsNotFound",
            "there are no credentials of Google Cloud in the environment of the sources service;"
            " name a Secret with the key of a service account, or set"
            " GOOGLE_APPLICATION_CREDENTIALS",
        ) from None
    credentials, project = found
    return credentials, project or ""


def fault_of(error: Exception, what: str, condition: str) -> SourceFault | None:
    """The fault for an error of a request that did `what`; None if the same request may succeed in
    a moment.
    """
    detail = _detail(error)
    match error:
        case exceptions.Unauthenticated():
            reason, advice = (
                "CredentialsRefused",
                "create a new key of the service account and store it in the Secret",
            )
        case GoogleAuthError() if not error.retryable:
            reason, advice = ("CredentialsRefused", "create a new key of the service account")
        case exceptions.Forbidden():
            reason, advice = (
                "PermissionDenied",
                "grant roles/pubsub.editor to the account on the project, and enable the Pub/Sub"
                " API in it",
            )
        case exceptions.NotFound():
            reason, advice = (
                "NotFound",
                "check project and topic; a subscription that was deleted is created again",
            )
        case exceptions.BadRequest():
            reason, advice = ("InvalidArgument", "correct the spec")
        case _:
            return None
    return SourceFault(reason, f"{what}: {detail}; {advice}", condition=condition)


def unavailable(error: Exception, what: str, condition: str) -> SourceFault:
    """The fault for an error that may be over in a moment, and has not been for some time."""
    return SourceFault(
        "Unavailable",
        f"{what}: {_detail(error)}; check that this process reaches"
        f" {os.environ.get(EMULATOR) or HOST}",
        condition=condition,
    )


def _detail(error: Exception) -> str:
    """What Google Cloud says of it, in one line."""
    text = error.message if isinstance(error, exceptions.GoogleAPICallError) else str(error)
    return " ".join(str(text or type(error).__name__).split())[:_TEXT_MAX]
