"""The adapter `camel` with Apache Camel itself: Maven fetches it, Java runs it."""

import asyncio
import contextlib
import signal
import socket
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import structlog

from headrace.adapters.http.server import Exchange, HttpServer
from headrace.runtime.sockets import listen, port_of
from headrace_sources.adapters.camel.config import CamelConfig
from headrace_sources.adapters.camel.source import CamelSource
from headrace_sources.settings import SourcesSettings
from headrace_sources.source import SourceFault
from tests.support.camel import camel_processes, needs_camel
from tests.support.sources import RecordingContext, RecordingEmit, running

SECONDS = 40.0
"""The first test on a machine fetches Camel."""
ALLOWED = SourcesSettings(camel=True)
ORIGIN = "/apis/v1/namespaces/default/camelsources/source"
pytestmark = [
    pytest.mark.timeout(300),
    needs_camel,
]


def source_of(context: RecordingContext | None = None, **config: object) -> CamelSource:
    """A source with this configuration."""
    return CamelSource(
        CamelConfig.model_validate({"source": ORIGIN, **config}),
        context or RecordingContext(settings=ALLOWED),
    )


async def fault_of(context: RecordingContext | None = None, **config: object) -> SourceFault:
    """The fault with which a source ends."""
    with pytest.raises(SourceFault) as found:
        async with asyncio.timeout(SECONDS):
            await source_of(context, **config).run(RecordingEmit())
    return found.value


async def test_a_uri_becomes_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the attributes of Camel, an id of each exchange, and no data where it has no body. The
    condition shows that it runs; afterwards nothing is left.
    """
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    context, emit = RecordingContext(settings=ALLOWED), RecordingEmit()
    async with running(source_of(context, uri="timer:tick?period=50"), emit):
        events = await emit.wait_for(3, SECONDS)
        assert context.conditions["Deployed"] == (True, "", "")
        assert len(camel_processes()) == 1
        assert [*tmp_path.iterdir()] == [], "the files are removed once Camel has read them"
    attributes = events[0].attributes
    assert attributes["type"] == "org.apache.camel.event"
    assert attributes["source"] == ORIGIN
    assert "datacontenttype" not in attributes
    assert events[0].data is None
    assert len({each.attributes["id"] for each in events}) == len(events)
    assert camel_processes() == []


async def test_a_route_sets_attributes_and_converts_bodies() -> None:
    """Text is text/plain, a map JSON; `ce-` headers are attributes, and so are the CloudEvents
    headers of Camel. Other headers are not passed on.
    """
    route = """
- route:
    from:
      uri: timer:text
      parameters: {repeatCount: 1}
      steps:
        - setBody: {constant: "größer"}
        - setHeader: {name: ce-type, constant: com.example.text}
        - setHeader: {name: ce-shelf, constant: "7"}
        - setHeader: {name: Authorization, constant: nobody reads this}
- from:
    uri: timer:map?repeatCount=1&delay=2000
    steps:
      - setBody: {simple: "{\\"a\\": [1, 2]}"}
      - unmarshal: {json: {}}
      - setHeader: {name: CamelCloudEventSubject, constant: a map}
      - setHeader: {name: CamelCloudEventSource, constant: /elsewhere}
"""
    emit = RecordingEmit()
    async with running(source_of(route=route), emit):
        text, mapping = await emit.wait_for(2, SECONDS)
    assert text.data == "größer".encode()
    assert text.attributes["datacontenttype"] == "text/plain; charset=utf-8"
    assert (text.attributes["type"], text.attributes["shelf"]) == ("com.example.text", "7")
    assert set(text.attributes) == {
        *("specversion", "id", "source", "type", "time", "datacontenttype", "shelf")
    }
    assert mapping.data == b'{"a":[1,2]}'
    assert mapping.attributes["datacontenttype"] == "application/json"
    assert (mapping.attributes["subject"], mapping.attributes["source"]) == ("a map", "/elsewhere")


async def test_a_file_stays_until_the_sink_has_taken_it(tmp_path: Path) -> None:
    """A failed exchange is Camel's own affair: its file component reads the file again."""
    (tmp_path / "order.json").write_text('{"id": 1}')
    emit = RecordingEmit()
    emit.refuse = 2
    route = f"""
- from:
    uri: file:{tmp_path}?delay=200&initialDelay=0
    steps:
      - setHeader: {{name: Content-Type, constant: application/json}}
      - setHeader: {{name: ce-subject, simple: "${{header.CamelFileName}}"}}
"""
    async with running(source_of(route=route), emit):
        await emit.wait_for_attempts(2, SECONDS)
        assert (tmp_path / "order.json").exists()
        (event,) = await emit.wait_for(1, SECONDS)
        async with asyncio.timeout(10):
            while not (tmp_path / ".camel/order.json").exists():
                await asyncio.sleep(0.05)
    assert (event.data, event.attributes["subject"]) == (b'{"id": 1}', "order.json")
    assert event.attributes["datacontenttype"] == "application/json"
    assert not (tmp_path / "order.json").exists()


async def test_the_error_handler_of_the_route_redelivers() -> None:
    """With the same id: it is the same exchange."""
    route = """
- errorHandler:
    defaultErrorHandler:
      redeliveryPolicy: {maximumRedeliveries: 5, redeliveryDelay: "50"}
- from:
    uri: timer:once?repeatCount=1
    steps:
      - setBody: {constant: again}
      - to: direct:sink
      - log: {message: "done ${body}"}
"""
    emit = RecordingEmit()
    emit.refuse = 2
    async with running(source_of(route=route), emit):
        (event,) = await emit.wait_for(1, SECONDS)
    assert event.data == b"again"
    assert emit.attempts == 3


@contextlib.asynccontextmanager
async def http_server(seen: list[dict[bytes, bytes]]) -> AsyncIterator[str]:
    """A server that answers every request with JSON."""

    def answer(exchange: Exchange) -> None:
        seen.append(dict(exchange.headers))
        exchange.respond(200, ((b"content-type", b"application/json"),), b'{"stock": 5}')

    listener = listen("127.0.0.1", 0, purpose="a server", option="")
    server = HttpServer(answer)
    await server.start(listener)
    try:
        yield f"http://127.0.0.1:{port_of(listener)}/stock"
    finally:
        await server.stop()


async def test_http_is_polled_with_a_secret() -> None:
    """The secret comes from a Secret, one key or a file of properties; it is neither in the log nor
    in a command line.
    """
    secrets = {
        ("stock", "token"): b"s3cr\xc3\xa9t=:#",
        ("stock", "application.properties"): b"# a comment\nshelf = number 7\n",
    }
    context = RecordingContext(settings=ALLOWED, secrets=secrets)
    seen: list[dict[bytes, bytes]] = []
    emit = RecordingEmit()
    with structlog.testing.capture_logs() as logs:
        async with http_server(seen) as url:
            route = f"""
- from:
    uri: timer:poll?period=100
    steps:
      - setHeader: {{name: X-Token, simple: "{{{{token}}}}"}}
      - setHeader: {{name: X-Shelf, simple: "{{{{shelf}}}} {{{{floor}}}}"}}
      - log: {{message: "with {{{{token}}}}"}}
      - to: {url}
"""
            references = [
                {"name": "token", "secretKeyRef": {"name": "stock", "key": "token"}},
                {"secretKeyRef": {"name": "stock", "key": "application.properties"}},
            ]
            source = source_of(
                context, route=route, properties={"floor": "2"}, propertiesFrom=references
            )
            async with running(source, emit):
                events = await emit.wait_for(2, SECONDS)
                commands = " ".join(
                    word
                    for each in psutil.Process().children(recursive=True)
                    for word in each.cmdline()
                )
    assert events[0].data == b'{"stock": 5}'
    assert events[0].attributes["datacontenttype"] == "application/json"
    assert seen[0][b"x-shelf"] == b"number 7 2"
    assert "s3cr" not in commands
    assert any("with ***" in str(each.get("line")) for each in logs)
    assert "s3cr" not in str(logs)


async def test_routes_of_knatives_time() -> None:
    """`knative:endpoint/sink`, steps in kebab case, and XML."""
    files = [
        {
            "name": "source.yaml",
            "content": "- from:\n    uri: timer:a\n    parameters: {repeatCount: 1}\n    steps:\n"
            "      - set-body: {constant: yaml}\n      - to: knative:endpoint/sink\n",
        },
        {
            "name": "source.xml",
            "content": '<routes xmlns="http://camel.apache.org/schema/spring"><route>'
            '<from uri="timer:b?repeatCount=1"/><setBody><constant>xml</constant></setBody>'
            '<to uri="knative:endpoint/sink"/></route></routes>',
        },
    ]
    emit = RecordingEmit()
    async with running(source_of(files=files), emit):
        events = await emit.wait_for(2, SECONDS)
    assert {each.data for each in events} == {b"yaml", b"xml"}


@pytest.mark.parametrize(
    ("config", "reason", "message"),
    [
        ({"uri": "tiemr:x"}, "UnknownComponent", "has no component tiemr: did you mean timer"),
        ({"uri": "timer:x?perid=3"}, "InvalidRoute", "Unknown parameters=[{perid=3}]"),
        ({"uri": "timer:{{missing}}"}, "InvalidRoute", "Property with key [missing] not found"),
        ({"uri": "http://127.0.0.1:9/"}, "InvalidRoute", "Cannot consume from http endpoint"),
        (
            {"route": "- from:\n    uri: timer:x\n    steps:\n      - setBdy: {constant: a}\n"},
            "InvalidRoute",
            "Unknown node id: setBdy",
        ),
        ({"route": "- from: [\n"}, "InvalidRoute", "spec.route, line 2"),
        (
            {"uri": "timer:x", "dependencies": ["mvn:org.example.none:none:1.0"]},
            "ArtifactNotFound",
            "Maven cannot get org.example.none:none",
        ),
        ({"uri": "timer:x", "dependencies": ["https"]}, "InvalidDependency", "neither camel:NAME"),
    ],
)
async def test_what_is_wrong_is_named(config: dict[str, Any], reason: str, message: str) -> None:
    """Each is a condition that says what to change."""
    fault = await fault_of(**config)
    assert fault.reason == reason
    assert message in str(fault)
    assert camel_processes() == []


async def test_a_consumer_that_cannot_read_is_a_condition() -> None:
    """Until it can: Camel tries again by itself."""
    context, emit = RecordingContext(settings=ALLOWED), RecordingEmit()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        uri = f"ftp://orders@127.0.0.1:{port}/in?password={{{{password}}}}&delay=200"
        source = source_of(context, uri=uri, properties={"password": "wrong"})
        async with running(source, emit), asyncio.timeout(SECONDS):
            while context.conditions.get("Deployed", ("", "", ""))[1] != "ConsumerFailed":
                await asyncio.sleep(0.05)
    message = context.conditions["Deployed"][2]
    assert "Camel cannot read: " in message
    assert "wrong" not in message


async def test_a_source_is_not_ready_before_camel_is_started() -> None:
    """From its first step on: `headrace apply --wait` returns when it is Ready once."""
    context = RecordingContext(settings=ALLOWED)
    run = source_of(context, uri="timer:tick").run(RecordingEmit())
    try:
        run.send(None)
        assert context.conditions["Deployed"][:2] == (None, "Starting")
    finally:
        run.close()


async def test_camel_is_off_unless_an_operator_allows_it() -> None:
    """The message names the setting."""
    fault = await fault_of(RecordingContext(), uri="timer:tick")
    assert fault.reason == "CamelDisabled"
    assert "HEADRACE_SOURCES_CAMEL=true" in str(fault)


async def test_without_java_the_condition_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And without Maven, where the artifacts are not there yet."""
    monkeypatch.setenv("PATH", str(tmp_path))
    fault = await fault_of(uri="timer:tick")
    assert fault.reason == "JavaMissing"
    assert "openjdk-17-jre-headless" in str(fault)
    for program in ("java", "bash", "dirname"):
        path = next(Path(each) / program for each in ("/usr/bin", "/bin"))
        (tmp_path / program).symlink_to(path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    fault = await fault_of(uri="timer:tick")
    assert fault.reason == "MavenMissing"
    assert "on Debian: maven" in str(fault)


async def test_a_process_that_is_killed_is_a_fault() -> None:
    """So the service starts the source again."""
    emit = RecordingEmit()
    task = asyncio.create_task(source_of(uri="timer:tick?period=50").run(emit))
    await emit.wait_for(1, SECONDS)
    (process,) = camel_processes()
    process.send_signal(signal.SIGKILL)
    with pytest.raises(SourceFault, match="ended by SIGKILL"):
        await asyncio.wait_for(task, 10)


async def test_a_full_heap_is_named() -> None:
    """With the setting that helps."""
    route = """
- from:
    uri: timer:once?repeatCount=1
    steps:
      - setBody: {constant: "0123456789012345678901234567890123456789"}
      - loop:
          constant: "40"
          steps:
            - setBody: {simple: "${body}${body}"}
"""
    context = RecordingContext(settings=SourcesSettings(camel=True, camel_heap_mb=48))
    fault = await fault_of(context, route=route)
    assert fault.reason == "OutOfMemory"
    assert "HEADRACE_SOURCES_CAMEL_HEAP_MB" in str(fault)


async def test_what_the_sink_refuses_for_good_fails_the_exchange() -> None:
    """An attribute that is not valid is named in Camel's log; the next exchange works."""
    route = """
- from:
    uri: timer:tick?period=100&includeMetadata=true
    steps:
      - choice:
          when:
            - simple: "${exchangeProperty.CamelTimerCounter} == 1"
              steps:
                - setHeader: {name: ce-time, constant: yesterday}
      - to: direct:sink
"""
    emit = RecordingEmit()
    with structlog.testing.capture_logs() as logs:
        async with running(source_of(route=route), emit):
            await emit.wait_for(1, SECONDS)
    assert any("statusCode: 400" in str(each.get("line")) for each in logs)
    (refused,) = (each for each in logs if each["event"] == "camel_event_refused")
    assert "time" in refused["error"]


async def test_the_output_of_a_process_is_logged_with_its_level() -> None:
    """With the name of the source; its rate is bounded."""
    route = """
- from:
    uri: timer:once?repeatCount=1
    steps:
      - loop:
          constant: "2000"
          steps:
            - log: {message: "line", loggingLevel: WARN}
"""
    emit = RecordingEmit()
    with structlog.testing.capture_logs() as logs:
        async with running(source_of(route=route), emit):
            await emit.wait_for(1, SECONDS)
    lines = [each for each in logs if "route1" in str(each.get("line"))]
    assert {(each["log_level"], each["namespace"], each["name"]) for each in lines} >= {
        ("warning", "default", "source")
    }
    assert len(lines) < 2000
