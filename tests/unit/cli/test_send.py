"""`headrace send`: what it makes of its options, and what it says of the answer."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from typer.testing import CliRunner, Result

from headrace_cli.main import application
from tests.support.certificates import Authority


@dataclass
class Server:
    """An HTTP server that records requests and answers with `status`."""

    url: str = ""
    status: int = 202
    body: bytes = b""
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    """Started, on a free port."""
    with _server() as started:
        yield started


@contextmanager
def _server(context: ssl.SSLContext | None = None) -> Iterator[Server]:
    """With a context it speaks https."""
    recorded = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            headers = {name.lower(): value for name, value in self.headers.items()}
            recorded.requests.append((self.path, headers, self.rfile.read(length)))
            self.send_response(recorded.status)
            self.send_header("content-length", str(len(recorded.body)))
            self.end_headers()
            self.wfile.write(recorded.body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        if context is not None:
            listening.socket = context.wrap_socket(listening.socket, server_side=True)
        scheme = "http" if context is None else "https"
        recorded.url = f"{scheme}://127.0.0.1:{listening.server_port}"
        thread = Thread(target=listening.serve_forever, args=(0.02,))
        thread.start()
        yield recorded
        listening.shutdown()
        thread.join()


def send(*arguments: str, stdin: bytes | None = None) -> Result:
    """Run the command."""
    return CliRunner().invoke(application(["send"]), ["send", *arguments], input=stdin)


def test_an_event_is_made_of_the_options(server: Server) -> None:
    """In binary mode, to the Broker `default/default` of the ingress."""
    options = ("--type", "order.created", "--id", "7", "-e", "amount=20", "-d", '{"order": 1}')
    done = send("--ingress", server.url, *options)
    assert (done.exit_code, done.stdout) == (
        0,
        f"202 Accepted  id=7  {server.url}/default/default\n",
    )
    [(path, headers, body)] = server.requests
    assert (path, body) == ("/default/default", b'{"order": 1}')
    found = {
        name: value for name, value in headers.items() if name.startswith(("ce-", "content-t"))
    }
    assert found == {
        "ce-specversion": "1.0",
        "ce-id": "7",
        "ce-source": "/headrace/send",
        "ce-type": "order.created",
        "ce-amount": "20",
        "content-type": "application/json",
    }


@pytest.mark.parametrize(
    ("target", "path"), [("orders", "/default/orders"), ("shop/orders", "/shop/orders")]
)
def test_a_target_is_a_broker(server: Server, target: str, path: str) -> None:
    """In the namespace `default` if none is named."""
    assert send(target, "--ingress", server.url).exit_code == 0
    assert server.requests[0][0] == path


def test_data_comes_from_standard_input_and_the_mode_is_structured(server: Server) -> None:
    """Text that is not JSON is text."""
    done = send(f"{server.url}/x", "-d", "-", "--mode", "structured", "--id", "7", stdin=b"hello")
    assert done.exit_code == 0
    [(path, headers, body)] = server.requests
    assert path == "/x"
    assert headers["content-type"].startswith("application/cloudevents+json")
    assert b'"datacontenttype":"text/plain"' in body
    assert b"hello" in body


def test_a_refusal_is_shown_with_its_reason(server: Server) -> None:
    """The exit code is 1."""
    server.status, server.body = 404, b'{"detail": "no Broker at /default/default"}'
    done = send("--ingress", server.url)
    assert done.exit_code == 1
    assert "404 Not Found" in done.stdout
    assert "no Broker at /default/default" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-e", "wrong"), "--extension wrong: give name=value"),
        (("-e", "Wrong=1"), "'Wrong'"),
        (("--type", ""), "'type'"),
        (("ftp://here/",), "give an http or https URL"),
        (("-d", "@/does/not/exist"), "No such file"),
        (("--ingress", "http://127.0.0.1:1"), "; start Headrace (`headrace up`), or "),
        (("--ingress", "http://127.0.0.1:1"), "--ingress or HEADRACE_INGRESS"),
        (("http://127.0.0.1:1/x",), "; start Headrace (`headrace up`), or correct the URL"),
    ],
)
def test_what_cannot_be_sent_is_explained(arguments: tuple[str, ...], message: str) -> None:
    """The exit code is 2, and nothing is sent."""
    done = send(*arguments)
    assert done.exit_code == 2
    assert message in done.stderr


def test_a_certificate_that_is_not_trusted_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server answers; with its authority in the variable that the message names, it is sent."""
    authority = Authority(tmp_path)
    own = authority.sign("ingress")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own.certificate, own.key)
    with _server(context) as server:
        refused = send("--ingress", server.url)
        assert refused.exit_code == 2
        assert "the certificate of" in refused.stderr
        assert "SSL_CERT_FILE" in refused.stderr
        assert "start Headrace" not in refused.stderr
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
        assert send("--ingress", server.url).exit_code == 0


def test_a_port_without_tls_is_explained(server: Server) -> None:
    """An https URL of a port that speaks http."""
    done = send("--ingress", server.url.replace("http:", "https:"))
    assert done.exit_code == 2
    assert "no TLS connection" in done.stderr
    assert "start Headrace" not in done.stderr
