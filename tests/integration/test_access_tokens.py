"""Access tokens for Kafka come from a token endpoint that may fail in any way."""

import base64
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from headrace.adapters.kafka.group_offsets.access_token import (
    ANSWER_BYTES_MAX,
    AccessTokens,
    TokenRefused,
    TokenUnavailable,
)

SECRET = "client-secret"


class Endpoint(BaseHTTPRequestHandler):
    """Answers with `status` and `body`."""

    status: ClassVar[int] = 200
    body: ClassVar[bytes] = b""
    headers_sent: ClassVar[dict[str, str]] = {}
    requests: ClassVar[list[tuple[str, str, str]]] = []

    def do_POST(self) -> None:
        """Answer a request."""
        form = self.rfile.read(int(self.headers["content-length"])).decode()
        self.requests.append((self.path, self.headers["authorization"], form))
        self.send_response(self.status)
        for name, value in {**self.headers_sent, "content-length": str(len(self.body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(self.body)

    do_GET = do_POST

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is printed."""


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of the endpoint."""
    monkeypatch.setattr(Endpoint, "requests", [])
    with ThreadingHTTPServer(("127.0.0.1", 0), Endpoint) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/token"
        server.shutdown()
        thread.join()


def tokens_of(url: str) -> AccessTokens:
    """Tokens of a client."""
    prefix = "sasl.oauthbearer."
    return AccessTokens(
        {
            prefix + "token.endpoint.url": url,
            prefix + "client.id": "client:1",
            prefix + "client.secret": SECRET,
            prefix + "scope": "a b",
        }
    )


def answer(monkeypatch: pytest.MonkeyPatch, document: object, status: int = 200) -> None:
    """What the endpoint answers from now on."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    monkeypatch.setattr(Endpoint, "body", body)
    monkeypatch.setattr(Endpoint, "status", status)


async def test_a_token_is_used_until_shortly_before_it_expires(
    endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Client id and secret are encoded one by one, so that a colon is no separator."""
    answer(monkeypatch, {"access_token": "first", "expires_in": 100})
    tokens = tokens_of(endpoint)
    assert ["first"] * 2 == [await tokens.token() for _ in range(2)]
    assert 70 < tokens.fresh_until - time.monotonic() <= 80
    pair = base64.b64encode(f"client%3A1:{SECRET}".encode()).decode()
    expected = ("/token", f"Basic {pair}", "grant_type=client_credentials&scope=a+b")
    assert [expected] == Endpoint.requests
    tokens.fresh_until = time.monotonic()
    answer(monkeypatch, {"access_token": "second", "expires_in": 100})
    assert "second" == await tokens.token()


async def test_the_expiry_may_be_in_the_token_only(
    endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or nowhere."""
    claims = base64.urlsafe_b64encode(json.dumps({"exp": time.time() + 1_000}).encode())
    answer(monkeypatch, {"access_token": f"x.{claims.decode().rstrip('=')}.y"})
    tokens = tokens_of(endpoint)
    await tokens.token()
    assert 700 < tokens.fresh_until - time.monotonic() <= 800
    answer(monkeypatch, {"access_token": "opaque", "expires_in": True})
    tokens = tokens_of(endpoint)
    await tokens.token()
    assert 200 < tokens.fresh_until - time.monotonic() <= 240


@pytest.mark.parametrize("status", [400, 401, 403])
async def test_a_refusal_is_final(
    endpoint: str, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """The message names what to check, and no secret."""
    answer(monkeypatch, {"error": SECRET}, status)
    with pytest.raises(TokenRefused, match=rf"{status}: check client id") as caught:
        await tokens_of(endpoint).token()
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("document", "status", "reason"),
    [
        ({}, 503, "status 503"),
        (b"<html>", 200, "without access_token"),
        ([], 200, "without access_token"),
        ({"access_token": 5}, 200, "no text"),
        ({"access_token": "a\x01b"}, 200, "no text"),
        ({"access_token": "x" * ANSWER_BYTES_MAX}, 200, "over"),
    ],
)
async def test_any_other_answer_may_pass(
    endpoint: str, monkeypatch: pytest.MonkeyPatch, document: object, status: int, reason: str
) -> None:
    """It is not the client's fault."""
    answer(monkeypatch, document, status)
    with pytest.raises(TokenUnavailable, match=reason):
        await tokens_of(endpoint).token()


async def test_redirects_are_not_followed(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other server would get the client secret."""
    answer(monkeypatch, {}, 302)
    monkeypatch.setattr(Endpoint, "headers_sent", {"location": endpoint + "/other"})
    with pytest.raises(TokenUnavailable, match="302"):
        await tokens_of(endpoint).token()
    assert 1 == len(Endpoint.requests)


async def test_an_endpoint_that_is_not_there() -> None:
    """The reason is that of the connection."""
    with pytest.raises(TokenUnavailable, match="refused"):
        await tokens_of("http://127.0.0.1:1/token").token()
