"""Gets the access tokens of OAUTHBEARER (RFC 7628) with the grant client_credentials (RFC 6749,
4.4), as librdkafka does for its own clients.
"""

import asyncio
import base64
import json
import math
import ssl
import time
from collections.abc import Mapping
from typing import IO, Any, Final
from urllib.error import HTTPError
from urllib.parse import quote_plus, urlencode
from urllib.request import HTTPRedirectHandler, HTTPSHandler, Request, build_opener

from aiokafka.abc import AbstractTokenProvider

TOKEN_SECONDS: Final = 5.0
"""Time limit for one request to the token endpoint."""
ANSWER_BYTES_MAX: Final = 262_144
_USED_SHARE: Final = 0.8
"""The share of its lifetime in which a token is used."""
_REASON_MAX: Final = 200
_REFUSALS: Final = frozenset({400, 401, 403})
_UNKNOWN_LIFETIME: Final = 300.0


class TokenRefused(ValueError):
    """The token endpoint does not accept the client. The message has no secret."""


class TokenUnavailable(OSError):
    """There is no token, and may be one later. The message has no secret."""


class AccessTokens(AbstractTokenProvider):  # type: ignore[misc] # aiokafka has no types
    """The current access token; a new one before it expires."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self._settings = settings
        self._token = ""
        self.fresh_until = -math.inf
        """When another token is needed, in monotonic seconds."""
        self._lock = asyncio.Lock()

    async def token(self) -> str:
        """Return a token. Raises `TokenRefused` and `TokenUnavailable`."""
        async with self._lock:
            if time.monotonic() >= self.fresh_until:
                asked_at = time.monotonic()
                self._token, lifetime = await asyncio.to_thread(_request, self._settings)
                self.fresh_until = asked_at + _USED_SHARE * lifetime
        return self._token


class _NoRedirects(HTTPRedirectHandler):
    """Another server would get the client secret."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _request(settings: Mapping[str, str]) -> tuple[str, float]:
    """Return a new token and its lifetime in seconds. Blocks for `TOKEN_SECONDS` at each step: the
    caller has a deadline for all of them.
    """
    prefix = "sasl.oauthbearer."
    url = settings[prefix + "token.endpoint.url"]
    form = {"grant_type": "client_credentials"}
    if prefix + "scope" in settings:
        form["scope"] = settings[prefix + "scope"]
    # Form-encoded before base64 (RFC 6749, 2.3.1).
    pair = ":".join(quote_plus(settings[f"{prefix}client.{each}"]) for each in ("id", "secret"))
    request = Request(  # noqa: S310 # the setting allows http and https only
        url,
        urlencode(form).encode(),
        {
            "Authorization": "Basic " + base64.b64encode(pair.encode()).decode(),
            "Accept": "application/json",
        },
    )
    context = ssl.create_default_context(cafile=settings.get("https.ca.location"))
    opener = build_opener(HTTPSHandler(context=context), _NoRedirects)
    deadline = time.monotonic() + TOKEN_SECONDS
    try:
        with opener.open(request, timeout=TOKEN_SECONDS) as answer:
            return _parse(_read(answer, deadline))
    except HTTPError as error:
        error.close()
        text = f"the token endpoint answers with status {error.code}"
        if error.code in _REFUSALS:
            raise TokenRefused(f"{text}: check client id, client secret and scope") from None
        raise TokenUnavailable(text) from None
    except TokenUnavailable:
        raise
    except OSError as error:
        reason = str(getattr(error, "reason", error))[:_REASON_MAX]
        raise TokenUnavailable(f"no answer from the token endpoint: {reason}") from None


def _read(answer: IO[bytes], deadline: float) -> bytes:
    body = b""
    while part := answer.read1(65_536):  # type: ignore[attr-defined] # that of http.client
        body += part
        if len(body) > ANSWER_BYTES_MAX:
            raise TokenUnavailable(f"the token endpoint answers with over {ANSWER_BYTES_MAX} bytes")
        if time.monotonic() >= deadline:
            raise TokenUnavailable(
                f"no complete answer of the token endpoint in {TOKEN_SECONDS:g} s"
            )
    return body


def _parse(body: bytes) -> tuple[str, float]:
    try:
        document = json.loads(body)
        token, lifetime = document["access_token"], document.get("expires_in")
    except (ValueError, LookupError, TypeError, AttributeError):
        raise TokenUnavailable("the token endpoint answers without access_token") from None
    if not isinstance(token, str) or not token.isascii() or not token.isprintable() or not token:
        raise TokenUnavailable("the token endpoint answers with an access_token that is no text")
    if isinstance(lifetime, int | float) and not isinstance(lifetime, bool) and lifetime > 0:
        return token, float(lifetime)
    return token, _lifetime(token)


def _lifetime(token: str) -> float:
    """Return the seconds until a JWT expires (RFC 7519, 4.1.4), five minutes if it is none."""
    try:
        claims = token.split(".")[1]
        expiry = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["exp"]
        return max(float(expiry) - time.time(), 0.0)
    except (ValueError, LookupError, TypeError):
        return _UNKNOWN_LIFETIME
