"""How the sender of a webhook shows that it is the one who knows the secret.

Pure. Comparisons take the same time wherever a value differs. No message contains a secret or a
signature that was expected.
"""

import base64
import binascii
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Final

_TIME_DIGITS_MAX: Final = 12
_SIGNATURES_MAX: Final = 16
"""Signatures in one request. A provider sends several while a secret is replaced."""
_STANDARD_PREFIX: Final = "whsec_"


class Scheme(StrEnum):
    """The scheme of a provider."""

    NONE = "None"
    """Anything is accepted."""
    BEARER = "Bearer"
    """`Authorization: Bearer` and the secret."""
    GITHUB = "GitHub"
    """`X-Hub-Signature-256`: HMAC-SHA256 of the body. The older header with SHA-1 is not looked
    at.
    """
    STRIPE = "Stripe"
    """`Stripe-Signature`: HMAC-SHA256 of time and body."""
    SLACK = "Slack"
    """`X-Slack-Signature`: HMAC-SHA256 of version, time and body."""
    STANDARD = "StandardWebhooks"
    """`webhook-signature` (standardwebhooks.com, and Svix's names): HMAC-SHA256 of id, time and
    body.
    """


class SignatureRefused(Exception):
    """The request has no valid signature; the message says what is wrong with it."""


class InvalidSecret(ValueError):
    """The secret cannot be one of this scheme."""


@dataclass(frozen=True, slots=True)
class Signed:
    """A request with a valid signature."""

    replay_key: bytes
    """Equal for requests that are the same, signed at the same time. Empty for a scheme whose
    signature has no time.
    """


_UNKEYED: Final = Signed(b"")


def check_secret(scheme: Scheme, secret: bytes) -> bytes:
    """Return the key of a secret as it is in its Secret. Raises `InvalidSecret`."""
    secret = secret.strip()  # A final line break is easily stored with it.
    if not secret:
        raise InvalidSecret("it is empty")
    if scheme is not Scheme.STANDARD:
        return secret
    try:
        text = secret.decode("ascii").removeprefix(_STANDARD_PREFIX)
        return base64.b64decode(text, validate=True)
    except (UnicodeDecodeError, binascii.Error):
        raise InvalidSecret(
            f"a secret of Standard Webhooks is {_STANDARD_PREFIX} and base64"
        ) from None


def verify(
    scheme: Scheme,
    key: bytes,
    headers: Mapping[str, str],
    body: bytes,
    *,
    now: float,
    tolerance_seconds: float,
) -> Signed:
    """Check a request. `key` is what `check_secret` returned, `now` the Unix time.

    Raises `SignatureRefused`.
    """
    match scheme:
        case Scheme.NONE:
            return _UNKEYED
        case Scheme.BEARER:
            return _verify_bearer(key, headers)
        case Scheme.GITHUB:
            return verify_github(key, headers, body)
        case Scheme.STRIPE:
            time, signatures = _stripe(headers)
            content = time.encode() + b"." + body
        case Scheme.SLACK:
            time = _required(headers, "x-slack-request-timestamp")
            signatures = _hex_signatures([_required(headers, "x-slack-signature")], "v0=")
            content = b"v0:" + time.encode() + b":" + body
        case Scheme.STANDARD:
            id, time, signatures = _standard(headers)
            content = f"{id}.{time}.".encode() + body
    expected = hmac.digest(key, content, sha256)
    _check(expected, signatures)
    # The time is looked at after the signature: an unsigned one means nothing.
    _check_time(time, now, tolerance_seconds)
    return Signed(expected)


def verify_github(key: bytes, headers: Mapping[str, str], body: bytes) -> Signed:
    """Check a request of GitHub. Raises `SignatureRefused`."""
    found = headers.get("x-hub-signature-256")
    if found is None and "x-hub-signature" in headers:
        raise SignatureRefused(
            "the request has only a signature with SHA-1, which is not accepted; send"
            " X-Hub-Signature-256"
        )
    signatures = _hex_signatures([_required(headers, "x-hub-signature-256")], "sha256=")
    _check(hmac.digest(key, body, sha256), signatures)
    return _UNKEYED


def _verify_bearer(key: bytes, headers: Mapping[str, str]) -> Signed:
    kind, _, token = _required(headers, "authorization").partition(" ")
    if kind.lower() != "bearer":
        raise SignatureRefused("the Authorization header has no bearer token")
    # Digests have the same length, so that not even the length of the token can be measured.
    given, expected = (sha256(each).digest() for each in (token.strip().encode("latin-1"), key))
    if not hmac.compare_digest(given, expected):
        raise SignatureRefused("the bearer token is another one")
    return _UNKEYED


def _stripe(headers: Mapping[str, str]) -> tuple[str, list[bytes]]:
    fields = [
        each.strip().partition("=")[::2]
        for each in _required(headers, "stripe-signature").split(",", _SIGNATURES_MAX)
    ]
    time = next((value for name, value in fields if name == "t"), "")
    return time, _hex_signatures([value for name, value in fields if name == "v1"], "")


def _standard(headers: Mapping[str, str]) -> tuple[str, str, list[bytes]]:
    prefix = "svix" if "svix-signature" in headers else "webhook"
    id, time = _required(headers, f"{prefix}-id"), _required(headers, f"{prefix}-timestamp")
    signatures = []
    given = _required(headers, f"{prefix}-signature").split(" ", _SIGNATURES_MAX)
    for each in given[:_SIGNATURES_MAX]:
        version, _, value = each.partition(",")
        if version == "v1":
            try:
                signatures.append(base64.b64decode(value, validate=True))
            except (binascii.Error, ValueError):
                continue
    return id, time, signatures


def _hex_signatures(texts: list[str], prefix: str) -> list[bytes]:
    """The signatures that are hexadecimal after this prefix."""
    found = []
    for text in texts:
        if text.startswith(prefix):
            try:
                found.append(bytes.fromhex(text.removeprefix(prefix)))
            except ValueError:
                continue
    return found


def _required(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name)
    if not value:
        raise SignatureRefused(f"the request has no header {name}")
    return value


def _check(expected: bytes, signatures: list[bytes]) -> None:
    valid = False
    for each in signatures:
        valid |= hmac.compare_digest(expected, each)
    if not valid:
        raise SignatureRefused("the signature is not one of this body with this secret")


def _check_time(text: str, now: float, tolerance_seconds: float) -> None:
    if not (text.isascii() and text.isdecimal() and len(text) <= _TIME_DIGITS_MAX):
        raise SignatureRefused("the time of the signature is not a number of seconds")
    if abs(now - int(text)) > tolerance_seconds:
        raise SignatureRefused(
            f"the signature was made more than {tolerance_seconds:g} s ago, or the clocks differ"
        )
