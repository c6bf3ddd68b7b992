"""Clients of services of AWS: region, endpoint and credentials."""

import configparser
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Final, Literal

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession, get_session
from botocore.exceptions import BotoCoreError, ClientError

from headrace.adapters.http.client_options import AddressPolicy
from headrace_sources.adapters.aws.faults import AwsFault, fault_of
from headrace_sources.source import SecretKeyRef, SourceConfig, SourceContext

CONNECT_SECONDS: Final = 5.0
READ_SECONDS: Final = 10.0
"""Without an answer for so long, a request has failed; a long poll waits that much longer."""
ATTEMPTS_MAX: Final = 3
CONNECTIONS_MAX: Final = 20
DEFAULT_REGION: Final = "us-east-1"
"""For an endpoint that is not AWS's, where the region is only part of the signature."""
_REGIONS_SHOWN: Final = "such as eu-central-1 or us-east-1"
_PROFILE: Final = "default"


class AwsAuth(SourceConfig):
    """Where the credentials are: two values of a Secret, a credentials file as the AWS command
    line has it in one value, or, with none of them, what the environment of the sources service
    has (variables, profile, web identity, role of the pod or the machine).
    """

    access_key: SecretKeyRef | None = None
    secret_key: SecretKeyRef | None = None
    credentials_file: SecretKeyRef | None = None


@dataclass(frozen=True, slots=True)
class Credentials:
    """An access key."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


async def read_credentials(auth: AwsAuth, context: SourceContext) -> Credentials | None:
    """Return the credentials; None for those of the environment. Raises `SourceFault`."""
    if auth.credentials_file is not None:
        text = await context.secret(auth.credentials_file)
        return parse_credentials_file(text, auth.credentials_file)
    if auth.access_key is None or auth.secret_key is None:
        return None
    return Credentials(
        await _text_of(auth.access_key, context), await _text_of(auth.secret_key, context)
    )


async def _text_of(reference: SecretKeyRef, context: SourceContext) -> str:
    # A value from a file often ends with a line end.
    return _ascii(await context.secret(reference), reference).strip()


def _ascii(value: bytes, reference: SecretKeyRef) -> str:
    try:
        return value.decode("ascii")
    except UnicodeDecodeError:
        raise AwsFault(
            "InvalidSecret", f"key {reference.key} of Secret {reference.name} is not ASCII text"
        ) from None


def parse_credentials_file(value: bytes, reference: SecretKeyRef) -> Credentials:
    """Return the profile `default` of a credentials file. Raises `AwsFault` if there is none; the
    message shows nothing of the file.
    """
    where = f"key {reference.key} of Secret {reference.name}"
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(_ascii(value, reference))
        profile = parser[_PROFILE]
        return Credentials(
            profile["aws_access_key_id"],
            profile["aws_secret_access_key"],
            profile.get("aws_session_token"),
        )
    except configparser.Error:
        problem = "is not a credentials file of AWS"
    except KeyError as error:
        problem = f"has no {error.args[0]}"
    raise AwsFault(
        "InvalidSecret",
        f"{where} {problem}; it must have a section [{_PROFILE}] with aws_access_key_id and"
        " aws_secret_access_key",
    ) from None


def check_region(region: str, session: AioSession | None = None) -> None:
    """Raise `AwsFault` if this cannot be a region of AWS.

    A region that is newer than the client library is let through if it looks like one.
    """
    loader = (session or get_session()).get_component("data_loader")
    for partition in loader.load_data("partitions")["partitions"]:
        if region in partition["regions"] or re.fullmatch(partition["regionRegex"], region):
            return
    raise AwsFault(
        "UnknownRegion", f"{region[:64]!r} is not a region of AWS; set one, {_REGIONS_SHOWN}"
    )


@dataclass(frozen=True, slots=True)
class _CheckedSockets:
    """Creates sockets for the addresses that the policy allows."""

    denied: AddressPolicy

    def __call__(self, address: Any) -> socket.socket:
        """Create a socket for an address as `getaddrinfo` returns it. Raises `AwsFault`."""
        family, kind, protocol, _, (host, port, *_) = address
        reason = self.denied(ip_address(str(host).partition("%")[0]), port)
        if reason:
            raise AwsFault("EndpointDenied", f"the endpoint must not be connected to: {reason}")
        return socket.socket(family, kind, protocol)


@asynccontextmanager
async def open_client(
    service: Literal["sqs"],
    *,
    region: str,
    endpoint: str,
    credentials: Credentials | None,
    address_denied: AddressPolicy,
    wait_seconds: float = 0.0,
) -> AsyncIterator[Any]:
    """Open a client of a service, and close its connections at the end.

    `region` may be empty with an `endpoint`, which is empty for AWS's own; `address_denied` is for
    an endpoint that is not. `wait_seconds` is how long a request may wait at the server. Raises
    `AwsFault`.
    """
    session = get_session()
    if not endpoint:
        check_region(region, session)
    found = region or session.get_config_variable("region") or DEFAULT_REGION
    config = AioConfig(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS + wait_seconds,
        max_pool_connections=CONNECTIONS_MAX,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS_MAX},
        tcp_keepalive=True,
        connector_args={"socket_factory": _CheckedSockets(address_denied)} if endpoint else {},
    )
    given: dict[str, str | None] = {}
    if credentials is not None:
        given = {
            "aws_access_key_id": credentials.access_key,
            "aws_secret_access_key": credentials.secret_key,
            "aws_session_token": credentials.session_token,
        }
    try:
        creating = session.create_client(
            service, region_name=found, endpoint_url=endpoint or None, config=config, **given
        )
        client = await creating.__aenter__()
    except (BotoCoreError, ClientError, ValueError) as error:
        # ValueError: the endpoint is not a URL.
        if isinstance(error, ValueError):
            raise AwsFault("InvalidEndpoint", f"{endpoint[:200]!r} is not a URL") from None
        raise fault_of(error, f"{service} in {found}") from None
    try:
        yield client
    finally:
        await creating.__aexit__(None, None, None)
