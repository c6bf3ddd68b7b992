"""`headrace send`: posts one CloudEvent, made from options, to a Broker, a channel or any URL."""

import json
import sys
import uuid
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn
from urllib.parse import urlsplit

import typer

from headrace.cloudevents import ContentMode, Event, InvalidEvent, Value, write_http
from headrace_cli.terminal import echo

INGRESS = "http://127.0.0.1:8080"
DATA_BYTES_MAX = 64 * 1024 * 1024
SECONDS = 35.0
"""Longer than a subscriber may take to answer."""
_SHOWN_MAX = 2_000
_REFUSED, _NOT_SENT = 1, 2


class Mode(StrEnum):
    """The content mode of the request."""

    BINARY = "binary"
    STRUCTURED = "structured"


Target = Annotated[
    str,
    typer.Argument(help="A URL, or NAMESPACE/NAME of a Broker, which is a path of the ingress."),
]
Type = Annotated[str, typer.Option("--type", "-t", help="Attribute type.")]
Source = Annotated[str, typer.Option("--source", "-s", help="Attribute source.")]
Id = Annotated[str, typer.Option("--id", help="Attribute id; default: a random one.")]
Subject = Annotated[str, typer.Option("--subject", help="Attribute subject.")]
Data = Annotated[
    str | None,
    typer.Option("--data", "-d", help="Data: text, @FILE, or - for standard input."),
]
ContentType = Annotated[
    str,
    typer.Option(
        "--content-type", help="Media type of the data; default: application/json if it is JSON."
    ),
]
Extension = Annotated[
    list[str] | None,
    typer.Option("--extension", "-e", help="An extension attribute, as name=value; repeatable."),
]
Ingress = Annotated[
    str, typer.Option("--ingress", envvar="HEADRACE_INGRESS", help="URL of the ingress.")
]
Content = Annotated[Mode, typer.Option("--mode", help="Content mode of the request.")]


def send(
    target: Target = "default/default",
    *,
    type: Type = "com.example.test",
    source: Source = "/headrace/send",
    id: Id = "",
    subject: Subject = "",
    data: Data = None,
    content_type: ContentType = "",
    extension: Extension = None,
    mode: Content = Mode.BINARY,
    ingress: Ingress = INGRESS,
) -> None:
    """Send one event and show the answer. Exits with 1 if it was not accepted, with 2 if it was
    not sent.
    """
    body = _data(data)
    attributes: dict[str, Value] = {
        "specversion": "1.0",
        "id": id or str(uuid.uuid4()),
        "source": source,
        "type": type,
        **({"subject": subject} if subject else {}),
        **_extensions(extension or []),
    }
    if body is not None:
        attributes["datacontenttype"] = content_type or _media_type(body)
    content = ContentMode.STRUCTURED if mode is Mode.STRUCTURED else ContentMode.BINARY
    try:
        message = write_http(Event(attributes, body), content)
    except InvalidEvent as error:
        _fail(str(error))
    url = _url(target, ingress)
    other = (
        "correct the URL"
        if url == target
        else "name another ingress with --ingress or HEADRACE_INGRESS"
    )
    _post(url, dict(message.headers), message.body, str(attributes["id"]), other)


def _url(target: str, ingress: str) -> str:
    if "://" in target:
        return target
    parts = target.strip("/").split("/")
    path = "/".join(parts if len(parts) > 1 else ["default", *parts])
    return f"{ingress.rstrip('/')}/{path}"


def _data(given: str | None) -> bytes | None:
    if given is None:
        return None
    if given == "-":
        data = sys.stdin.buffer.read(DATA_BYTES_MAX + 1)
    elif given.startswith("@"):
        try:
            data = Path(given[1:]).read_bytes()
        except OSError as error:
            _fail(f"--data {given}: {error}")
    else:
        data = given.encode("utf-8", "surrogateescape")
    if len(data) > DATA_BYTES_MAX:
        _fail(f"--data: more than {DATA_BYTES_MAX} bytes")
    return data


def _media_type(data: bytes) -> str:
    try:
        json.loads(data)
    except ValueError:
        return "text/plain"
    return "application/json"


def _extensions(given: list[str]) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for each in given:
        name, separator, value = each.partition("=")
        if not separator or not name:
            _fail(f"--extension {each}: give name=value")
        found[name] = value
    return found


def _post(url: str, headers: dict[str, str], body: bytes, id: str, other: str) -> None:
    """Send the request and print the answer. `other` is the next step if it is not answered and
    Headrace runs.
    """
    import urllib3

    if urlsplit(url).scheme not in ("http", "https"):
        _fail(f"{url}: give an http or https URL, or NAMESPACE/NAME of a Broker")
    http = urllib3.PoolManager(timeout=urllib3.Timeout(connect=5.0, read=SECONDS), retries=False)
    try:
        answer = http.request("POST", url, body=body, headers=headers, redirect=False)
    except urllib3.exceptions.SSLError as error:
        _fail(_tls_failure(url, error))
    except (urllib3.exceptions.HTTPError, UnicodeError) as error:
        _fail(f"{url} does not answer: {error}; start Headrace (`headrace up`), or {other}")
    finally:
        http.clear()
    echo(f"{answer.status} {answer.reason}  id={id}  {url}")
    if answer.data and (answer.status >= 300 or "ce-type" in answer.headers):
        echo(answer.data[:_SHOWN_MAX].decode("utf-8", "replace"))
    if not 200 <= answer.status < 300:
        raise typer.Exit(_REFUSED)


def _tls_failure(url: str, error: Exception) -> str:
    """What is wrong, and what to do; urllib3 keeps the reason as the argument of its own error."""
    import ssl

    if any(isinstance(each, ssl.SSLCertVerificationError) for each in error.args):
        return (
            f"the certificate of {url} is not trusted: {error}; name the file with its authority in"
            " SSL_CERT_FILE, and use a URL with a name of the certificate"
        )
    return f"no TLS connection with {url}: {error}; check whether it is an http URL"


def _fail(message: str) -> NoReturn:
    echo(f"headrace send: {message}", err=True)
    raise typer.Exit(_NOT_SENT)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("send")(send)
