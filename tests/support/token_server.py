"""An authorization server for tests: gives out signed tokens (OAuth 2.0, client_credentials), and
has the key set by which Kafka verifies them.
"""

import base64
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote_plus

import pytest

SECONDS = 20.0
KEY_ID = "test"


class TokenServer:
    """Listens on the loopback interface; `url` is the token endpoint, `key_set` a file."""

    def __init__(self, directory: Path, *, audience: str, lifetime_seconds: float) -> None:
        if shutil.which("openssl") is None:
            pytest.skip("not proven here: tokens are signed with the openssl command")
        directory.mkdir(parents=True, exist_ok=True)
        self._audience, self._lifetime = audience, lifetime_seconds
        self.clients: dict[str, str] = {}
        """Client secrets by client id."""
        self.issued: list[str] = []
        """The client id of each token that was given out."""
        self._key = directory / "key.pem"
        self.key_set = directory / "jwks.json"
        self._create_key()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                form = self.rfile.read(int(self.headers.get("content-length", "0"))).decode()
                status, document = server._answer(self.headers.get("authorization", ""), form)
                body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/token"

    @contextmanager
    def running(self) -> Iterator["TokenServer"]:
        """Serve until the end of the block."""
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()

    def _answer(self, authorization: str, form: str) -> tuple[int, dict[str, Any]]:
        text = base64.b64decode(authorization.removeprefix("Basic ")).decode()
        name, secret = (unquote_plus(part) for part in text.split(":", 1))
        if self.clients.get(name) != secret:
            return 401, {"error": "invalid_client"}
        assert parse_qs(form)["grant_type"] == ["client_credentials"]
        self.issued.append(name)
        token = self._token(name, parse_qs(form).get("scope", [""])[0])
        answer = {"access_token": token, "token_type": "Bearer", "expires_in": self._lifetime}
        return 200, answer

    def _token(self, subject: str, scope: str) -> str:
        now = int(time.time())
        claims = {
            "iss": self.url,
            "sub": subject,
            "aud": self._audience,
            "iat": now,
            "exp": now + int(self._lifetime),
            "scope": scope,
        }
        signed = f"{_encoded({'alg': 'RS256', 'kid': KEY_ID})}.{_encoded(claims)}"
        command = ["openssl", "dgst", "-sha256", "-sign", str(self._key)]
        signature = subprocess.run(
            command, input=signed.encode(), capture_output=True, check=True, timeout=SECONDS
        )
        return f"{signed}.{_base64(signature.stdout)}"

    def _create_key(self) -> None:
        def openssl(*arguments: str) -> str:
            return subprocess.run(
                ["openssl", *arguments], capture_output=True, text=True, check=True, timeout=SECONDS
            ).stdout

        openssl("genrsa", "-out", str(self._key), "2048")
        modulus = openssl("rsa", "-in", str(self._key), "-noout", "-modulus").strip()
        key = {
            "kty": "RSA",
            "use": "sig",
            "alg": "RS256",
            "kid": KEY_ID,
            "n": _base64(bytes.fromhex(modulus.partition("=")[2])),
            "e": "AQAB",
        }
        self.key_set.write_text(json.dumps({"keys": [key]}))


def _encoded(document: dict[str, Any]) -> str:
    return _base64(json.dumps(document).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
