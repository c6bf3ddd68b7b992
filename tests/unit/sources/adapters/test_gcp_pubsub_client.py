"""Credentials, and what the errors of Google Cloud mean."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.api_core import exceptions
from google.auth.exceptions import RefreshError

from headrace_sources.adapters.gcp_pubsub_client import (
    connect,
    credentials_of_key,
    fault_of,
    unavailable,
)
from headrace_sources.source import SecretKeyRef, SourceFault
from tests.support.sources import RecordingContext

REFERENCE = SecretKeyRef(name="google-cloud-key", key="key.json")
PRIVATE = (
    rsa.generate_private_key(public_exponent=65537, key_size=2048)
    .private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    .decode()
)
KEY: dict[str, Any] = {
    "type": "service_account",
    "project_id": "p1",
    "private_key_id": "1",
    "private_key": PRIVATE,
    "client_email": "a@p1.iam.gserviceaccount.com",
    "token_uri": "https://127.0.0.1:1/token",
}


@pytest.fixture(autouse=True)
def without_google_cloud(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Iterator[None]:
    """No credentials in the environment, and no metadata server that is asked."""
    for name in ("PUBSUB_EMULATOR_HOST", "GOOGLE_CLOUD_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    yield


def test_a_key_signs_its_own_tokens() -> None:
    """So that no address in it is asked for one."""
    credentials, project = credentials_of_key(json.dumps(KEY).encode(), REFERENCE)
    assert project == "p1"
    credentials.refresh(None)  # type: ignore[no-untyped-call]
    assert str(credentials.token).count(".") == 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff", "is not JSON"),
        (b"[]", "is not JSON"),
        (json.dumps({**KEY, "type": "external_account"}).encode(), "not the key of a service"),
        (json.dumps({**KEY, "private_key": "nonsense"}).encode(), "not a complete key"),
        (json.dumps({**KEY, "private_key": 5}).encode(), "not a complete key"),
        (json.dumps({"type": "service_account"}).encode(), "not a complete key"),
    ],
)
def test_what_is_no_key_is_named_and_not_quoted(content: bytes, said: str) -> None:
    """Other kinds of credentials may name addresses, files and programs."""
    with pytest.raises(SourceFault, match=said) as raised:
        credentials_of_key(content, REFERENCE)
    assert raised.value.reason == "CredentialsInvalid"
    assert "key key.json of Secret google-cloud-key" in str(raised.value)
    assert "nonsense" not in str(raised.value)


async def test_without_credentials_the_fault_says_how_to_give_some() -> None:
    """In a Secret or in the environment."""
    with pytest.raises(SourceFault, match="GOOGLE_APPLICATION_CREDENTIALS") as raised:
        async with connect(RecordingContext(), None):
            pass
    assert raised.value.reason == "CredentialsNotFound"


async def test_a_secret_gives_credentials_and_project() -> None:
    """The project of the key is that of the topic, if nothing else is said."""
    context = RecordingContext(secrets={("google-cloud-key", "key.json"): json.dumps(KEY).encode()})
    async with connect(context, REFERENCE) as connection:
        assert connection.project == "p1"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (exceptions.Unauthenticated, "CredentialsRefused"),
        (RefreshError, "CredentialsRefused"),
        (exceptions.PermissionDenied, "PermissionDenied"),
        (exceptions.NotFound, "NotFound"),
        (exceptions.InvalidArgument, "InvalidArgument"),
        (exceptions.FailedPrecondition, "InvalidArgument"),
    ],
)
def test_an_error_that_stays_is_a_fault(error: Callable[[str], Exception], reason: str) -> None:
    """In the condition, with what was done."""
    fault = fault_of(error("no"), "creating projects/p/subscriptions/s", "PullSubscriptionReady")
    assert fault is not None
    assert (fault.reason, fault.condition) == (reason, "PullSubscriptionReady")
    assert str(fault).startswith("creating projects/p/subscriptions/s: ")


@pytest.mark.parametrize(
    "error",
    [
        exceptions.ServiceUnavailable,
        exceptions.ResourceExhausted,
        exceptions.DeadlineExceeded,
        TimeoutError,
    ],
)
def test_an_error_that_may_pass_is_none(error: Callable[[str], Exception]) -> None:
    """If it does not, the fault names the server."""
    assert fault_of(error("late"), "reading", "Ready") is None
    assert "pubsub.googleapis.com" in str(unavailable(error("late"), "reading", "Ready"))
