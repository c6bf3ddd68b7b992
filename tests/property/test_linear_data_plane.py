"""Every reader of the data plane takes time in proportion to its input, up to the input's limit.

`READERS` lists all readers of external bytes: each gets every shape of
`tests.support.hostile_shapes`, at its start and in the places where a valid text continues.
`PATTERNS` lists all regular expressions and similar tools in the modules that data plane processes
import, each with the reader that shows it linear; a pattern that is not listed fails a test.
"""

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from headrace.adapters.http.server_body import ChunkedBody, LengthBody
from headrace.adapters.http.server_head import (
    RequestRejected,
    check_request_line,
    read_framing,
    reject_unfinished,
)
from headrace.adapters.http.server_limits import ServerLimits
from headrace.adapters.kafka.control import instances
from headrace.adapters.nats import credentials_file
from headrace.codec import (
    delivery_state,
    http,
    json_event,
    json_text,
    kafka,
    local_request,
    objects,
    percent,
    routing,
    trace_context,
)
from headrace.codec.content_mode import mode
from headrace.codec.passthrough_headers import is_passthrough, passthrough_value
from headrace.domain import attributes, filters
from headrace.domain.cesql import (
    EXPRESSION_LENGTH_MAX,
    ParseError,
    compile_expression,
    parse,
    render,
)
from headrace.domain.cesql.like import Pattern
from headrace.domain.event import BatchTooLarge, Event, InvalidEvent, UnsupportedContent
from headrace.domain.observed_event_types import ObservedEventTypes
from headrace.domain.offsets import OffsetTracker
from headrace.domain.record import Record
from headrace.domain.retry_after import parse_http_date, retry_after_seconds
from headrace.domain.routing import Addressable, EventSchema, RoutingTable
from headrace.domain.target_url import is_address, parse_target_url
from headrace.resources import destination
from headrace.resources.event_type import event_type_name
from headrace.runtime.metrics import Metrics
from headrace_ingress.ingress import load_schema_compiler
from headrace_ingress.metrics import IngressMetrics
from headrace_ingress.route_cache import RouteCache, decode_host, decode_path
from headrace_ingress.schema_checks import CompiledSchemas, SchemaChecks
from tests.support import event_builders as build
from tests.support.client_response import respond
from tests.support.complexity import assert_linear
from tests.support.hostile_shapes import SHAPES

BODY = 983_040
"""Largest event: 1 MiB less the space that is reserved for headers."""
HEAD = 65_536
"""Largest head of a request or response, and so the largest header value."""
VALUE = attributes.VALUE_BYTES_MAX
RECORD = 1_048_576
"""Largest record of a topic by Kafka's default."""
REPLY = BODY
"""A reply may be as large as an event."""

BINARY = build.http_headers(None)
STRUCTURED = (b"content-type", b"application/cloudevents+json")
BATCH = (b"content-type", b"application/cloudevents-batch+json")
EVENT = b'{"specversion":"1.0","id":"1","source":"/s","type":"t",'


@dataclass(frozen=True)
class Reader:
    """A reader of external bytes. `raises` are its errors for bytes that it rejects."""

    largest: int
    read: Callable[[bytes], object]
    raises: tuple[type[Exception], ...] = ()
    around: tuple[tuple[bytes, bytes], ...] = ((b"", b""),)
    """The text before and after the hostile part."""
    shapes: tuple[str, ...] = tuple(SHAPES)


_CREDENTIALS = b"BEGIN NATS USER JWT\na.b.c\nEND NATS USER JWT\nBEGIN USER NKEY SEED\n"


def text(read: Callable[[str], object]) -> Callable[[bytes], object]:
    """A reader of text as one of arbitrary bytes."""
    return lambda raw: read(raw.decode("utf-8", "replace"))


def _request(header: tuple[bytes, bytes], raw: bytes) -> object:
    return http.read([header], raw, arrival=build.ARRIVAL)


def _header(name: bytes, raw: bytes) -> object:
    return http.read(
        [
            (b"ce-" + key.encode(), value.encode())
            for key, value in build.REQUIRED.items()
            if key != name.decode()
        ]
        + [(b"ce-" + name, raw)],
        b"",
        arrival=build.ARRIVAL,
    )


def _names(raw: bytes) -> object:
    """Header names: pieces of eight bytes, as many as fit."""
    pieces = [raw[at : at + 8] for at in range(0, len(raw), 8)]
    return http.read(
        [
            *BINARY,
            *((b"ce-" + piece + b"%d" % number, b"x") for number, piece in enumerate(pieces)),
        ],
        b"",
        arrival=None,
    )


def _record_names(raw: bytes) -> object:
    pieces = [raw[at : at + 8].decode("latin-1") for at in range(0, len(raw), 8)]
    headers = build.record_headers(
        *((f"ce_{piece}{number}", b"x") for number, piece in enumerate(pieces))
    )
    kafka.normalise(build.stored(headers))
    return http.write_binary(headers)


def _record_value(raw: bytes) -> object:
    headers = build.record_headers(ext=raw)
    return kafka.attributes(kafka.normalise(build.stored(headers)).headers)


def _framing(raw: bytes) -> object:
    names = (b"host", b"content-length", b"transfer-encoding", b"expect")
    return read_framing(names, (raw,) * len(names), ServerLimits())


def _framing_names(raw: bytes) -> object:
    names = (b"host", *(raw[at : at + 512] for at in range(0, len(raw), 512)))
    return read_framing(names, (b"a", *(b"",) * (len(names) - 1)), ServerLimits())


def _feed(body: ChunkedBody | LengthBody, raw: bytes, piece: int) -> object:
    for at in range(0, len(raw), piece):
        body.feed(raw[at : at + piece], 0)
    return body.value()


def _delivery_state(raw: bytes) -> object:
    names = ("subscription", "origin", "attempt", "first_failure", "dead", "due", "reason", "hops")
    headers = [(f"headrace_{name}", raw) for name in names]
    delivery_state.read_hops(headers)
    return delivery_state.read(headers)


def _addresses() -> Callable[[bytes], object]:
    table = RoutingTable()
    for number in range(200):
        name = f"{'aabb' * 12}{number}"
        route = Addressable(
            uid=name,
            generation=1,
            epoch=1,
            namespace="a" * 63,
            name=name,
            topic="t",
            paths=(f"/{'a' * 63}/{name}",),
            hosts=(),
        )
        table.apply(f"addressable/{name}", route)
    addresses = RouteCache(table, IngressMetrics(Metrics(process=False)), batch_bytes_max=1_048_576)

    def look_up(raw: bytes) -> object:
        return addresses.find(raw, raw) or addresses.explain_unknown(raw)

    return look_up


def _seen_types(raw: bytes) -> object:
    seen = ObservedEventTypes()
    seen.note("uid", {"ce_type": raw, "ce_source": raw, "ce_dataschema": raw})
    return seen.next_batch()


def _tree(raw: str) -> object:
    expression = compile_expression(raw)
    expression.evaluate({"a": raw})
    return render(parse(raw)) if "\\" not in raw else expression


def _routing_record(raw: bytes) -> object:
    return routing.read("subscription/uid", raw)


def _filters(raw: bytes) -> object:
    text = raw.decode("utf-8", "replace")
    entries = [{"cesql": text[at : at + 8_000]} for at in range(0, len(text), 8_000)] + [
        {"prefix": {text[:64]: text[:8_000]}}
    ]
    return filters.compile(entries), filters.validate(entries, "spec.filters")


JSON_PLACES = (
    (b"", b""),
    (b"[", b"]"),
    (EVENT + b'"data":', b"}"),
    (EVENT + b'"data_base64":"', b'"}'),
    (EVENT + b'"subject":"', b'"}'),
    (EVENT + b'"datacontenttype":"text/plain","data":"', b'"}'),
    (EVENT + b'"x":', b"}"),
    (EVENT, b":1}"),
    (EVENT[:-1], b"}"),
)
NAMES = ("letters", "alternating letters", "digits", "two bytes", "spaces")
"""Shapes for readers that split a text into many names: the number counts, not the content."""
EXPRESSIONS = (
    "letters",
    "digits",
    "spaces",
    "unclosed single string",
    "escaped single quotes",
    "parentheses",
    "signs",
    "wildcards",
)
"""Shapes for many expressions at once; the row CESQL has each with every shape."""
PIECES = ("letters", "line ends", "chunks", "extensions", "colons")
"""Shapes for input that is split at line ends."""
SEGMENT = 512
"""The minimum size of a chunk: receiving smaller chunks costs more than reading them."""
EVENT_FAULTS = (InvalidEvent, BatchTooLarge, UnsupportedContent)
RESPONSES = (
    (b"", b""),
    (b"HTTP/1.1 200 OK\r\n", b""),
    (b"HTTP/1.1 200 OK\r\na: ", b""),
    (b"HTTP/1.1 200 OK\r\n\r\n", b""),
)
RULES = {**attributes.rules("1.0"), **attributes.rules("0.3")}


def _checks(**fields: str) -> SchemaChecks:
    schema = EventSchema(
        uid="s",
        generation=1,
        epoch=1,
        namespace="n",
        name="e",
        addressable="a",
        type="t",
        schema='{"properties":{"a":{"pattern":"^(a|b|ab)*c$"}},"additionalProperties":false}',
        **fields,
    )
    return SchemaChecks([schema], CompiledSchemas(load_schema_compiler))


def _schema_check() -> Callable[[bytes], object]:
    """A check of data, which is any bytes."""
    checks = _checks()
    return lambda raw: checks.failure_of(Record(None, raw, [("ce_type", b"t")]))


def _source_of_schema() -> Callable[[bytes], object]:
    """The search for the schema of a source with placeholders."""
    checks = _checks(source="/{a}a{b}b{c}/{d}")
    return lambda raw: checks.failure_of(
        Record(None, b"{}", [("ce_type", b"t"), ("ce_source", raw)])
    )


READERS: dict[str, Reader] = {
    "structured request": Reader(BODY, partial(_request, STRUCTURED), EVENT_FAULTS, JSON_PLACES),
    "batch request": Reader(
        BODY,
        partial(_request, BATCH),
        EVENT_FAULTS,
        ((b"[", b"]"), (b"[" + EVENT + b'"data":1},', b"]")),
    ),
    "JSON text": Reader(RECORD, json_text.is_valid),
    "structured record": Reader(
        RECORD,
        lambda raw: kafka.normalise(build.stored([("content-type", STRUCTURED[1])], raw)),
        EVENT_FAULTS,
        JSON_PLACES[:1],
    ),
    "structured delivery of JSON data": Reader(
        RECORD,
        lambda raw: http.write_structured(
            build.record_headers(("content-type", b"application/json")), raw
        ),
        EVENT_FAULTS,
    ),
    "structured delivery of text": Reader(
        RECORD,
        lambda raw: http.write_structured(
            build.record_headers(("content-type", b"text/plain; charset=utf-8")), raw
        ),
        EVENT_FAULTS,
    ),
    "JSON event out": Reader(
        HEAD,
        text(lambda raw: json_event.write(Event({**build.REQUIRED, "x": raw}, raw.encode()))),
        EVENT_FAULTS,
    ),
    "reply": Reader(
        REPLY, lambda raw: http.read_reply(200, [STRUCTURED], raw), EVENT_FAULTS, JSON_PLACES[:3]
    ),
    "reply headers": Reader(
        HEAD,
        lambda raw: http.read_reply(200, [*BINARY, (b"ce-x", raw), (b"content-type", raw)], b""),
        EVENT_FAULTS,
    ),
    "event header": Reader(
        HEAD, partial(_header, b"ext"), EVENT_FAULTS, ((b"", b""), (b'"', b'"'))
    ),
    "event header with a rule": Reader(
        HEAD, partial(_header, b"source"), EVENT_FAULTS, ((b"", b""), (b"//", b""), (b"a:", b""))
    ),
    "event header names": Reader(HEAD, _names, EVENT_FAULTS, shapes=NAMES),
    "carried header": Reader(
        HEAD,
        lambda raw: (passthrough_value(raw), is_passthrough("knative-" + raw.decode("latin-1"))),
    ),
    "Content-Type": Reader(
        HEAD,
        mode,
        EVENT_FAULTS,
        ((b"", b""), (b"a/b", b""), (b"a/b;", b""), (b"application/cloudevents+json;", b"")),
    ),
    "percent-encoded value": Reader(
        HEAD, percent.decode, (ValueError,), ((b"", b""), (b'"', b'"'))
    ),
    "value to encode": Reader(HEAD, percent.encode),
    "record header names": Reader(RECORD, _record_names, EVENT_FAULTS, shapes=NAMES),
    "record header value": Reader(RECORD, _record_value, EVENT_FAULTS),
    "record to send": Reader(
        RECORD,
        lambda raw: http.write_binary(build.record_headers(("traceparent", raw), ext=raw)),
        EVENT_FAULTS,
    ),
    "private headers": Reader(RECORD, _delivery_state, (delivery_state.InvalidDeliveryState,)),
    "attribute name": Reader(HEAD, text(attributes.name_fault)),
    "attribute text": Reader(HEAD, text(attributes.string_fault)),
    **{
        f"attribute {name}": Reader(
            VALUE,
            text(rule),
            around=((b"", b""), (b"a:", b""), (b"//", b""), (b"http://a", b""), (b"a/b", b"")),
        )
        for name, rule in RULES.items()
    },
    "timestamp": Reader(
        VALUE,
        text(attributes.is_timestamp),
        around=((b"", b""), (b"2020-01-01T00:00:00", b""), (b"2020-01-01T00:00:00.", b"Z")),
    ),
    "traceparent": Reader(
        VALUE,
        trace_context.parse,
        around=((b"", b""), (b"cc-" + b"1" * 32 + b"-" + b"2" * 16 + b"-01-", b"")),
    ),
    "media type of data": Reader(VALUE, text(attributes.is_json)),
    "Retry-After": Reader(
        HEAD, lambda raw: retry_after_seconds(raw, 0.0), around=((b"", b""), (b"Mon, ", b" GMT"))
    ),
    "HTTP date": Reader(
        HEAD, lambda raw: parse_http_date(raw, 0.0), around=((b"", b""), (b"Mon, ", b" GMT"))
    ),
    "target URL": Reader(
        HEAD,
        text(parse_target_url),
        (ValueError,),
        ((b"", b""), (b"http://", b""), (b"http://a:", b""), (b"http://[", b"]")),
    ),
    "address": Reader(HEAD, text(is_address)),
    "destination": Reader(
        HEAD,
        text(
            lambda raw: destination.validate(
                {"uri": raw, "CACerts": "-----BEGIN CERTIFICATE-----" + raw}, "spec.subscriber"
            )
        ),
    ),
    "event type": Reader(HEAD, text(lambda raw: event_type_name(raw, raw, raw, raw))),
    "seen types": Reader(HEAD, _seen_types),
    "data with a schema": Reader(BODY, _schema_check(), around=((b"", b""), (b'{"a":"', b'"}'))),
    "source of a schema": Reader(HEAD, _source_of_schema()),
    "request path": Reader(HEAD, decode_path, around=((b"", b""), (b"/", b""), (b"http://", b""))),
    "Host": Reader(HEAD, decode_host),
    "unknown address": Reader(
        HEAD,
        _addresses(),
        around=(
            (b"", b""),
            (b"/", b""),
            (b"/" + b"a" * 63 + b"/", b""),
            (b"/" + b"a" * 63 + b"/" + b"abab" * 12, b""),
        ),
    ),
    "Host, Origin and Sec-Fetch-Site": Reader(
        HEAD,
        text(lambda raw: (local_request.split_host(raw), local_request.refusal(raw, raw, raw, ()))),
        around=(
            (b"", b""),
            (b"[", b"]"),
            (b"[v1.", b"]:80"),
            (b"http://", b":80"),
            (b"localhost:", b""),
        ),
    ),
    "request line": Reader(
        HEAD, check_request_line, (RequestRejected,), ((b"", b""), (b"POST ", b" HTTP/1.1\r\n"))
    ),
    "unfinished head": Reader(
        HEAD,
        lambda raw: reject_unfinished(raw, ServerLimits()),
        (RequestRejected,),
        ((b"A", b""), (b"\r", b"")),
    ),
    "framing fields": Reader(HEAD, _framing, (RequestRejected,)),
    "framing names": Reader(HEAD, _framing_names, (RequestRejected,)),
    "chunked body": Reader(
        BODY, lambda raw: _feed(ChunkedBody(BODY), raw, 65_536), (RequestRejected,)
    ),
    "chunked body in small pieces": Reader(
        HEAD,
        lambda raw: _feed(ChunkedBody(BODY), raw, 1),
        (RequestRejected,),
        ((b"", b""), (b"ffffff\r\n", b"")),
        PIECES,
    ),
    "body in small pieces": Reader(
        HEAD, lambda raw: _feed(LengthBody(len(raw)), raw, 1), shapes=("letters",)
    ),
    "response": Reader(HEAD, partial(respond, piece=65_536), around=RESPONSES),
    "response in pieces": Reader(HEAD, partial(respond, piece=SEGMENT), around=RESPONSES),
    "chunked response": Reader(
        HEAD,
        partial(respond, piece=SEGMENT),
        around=((b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b""),),
    ),
    "CESQL": Reader(
        EXPRESSION_LENGTH_MAX,
        text(_tree),
        (ParseError,),
        (
            (b"", b""),
            (b"a = '", b"'"),
            (b"a LIKE '", b"'"),
            (b"a IN (1", b")"),
            (b"CONCAT(a", b")"),
            (b"a = 1 AND ", b""),
        ),
    ),
    "LIKE pattern": Reader(
        EXPRESSION_LENGTH_MAX,
        text(lambda raw: Pattern(raw).matcher()(raw)),
        around=((b"", b""), (b"%", b"%")),
    ),
    "filters": Reader(
        routing.RECORD_BYTES_MAX, _filters, (filters.InvalidFilter,), shapes=EXPRESSIONS
    ),
    "routing record": Reader(
        routing.RECORD_BYTES_MAX,
        _routing_record,
        (routing.BadRoutingRecord,),
        (
            (b"", b""),
            (b'{"v":1,"kind":"subscription","uid":', b"}"),
            (b'{"v":1,"kind":"delays","tiers":[', b"]}"),
        ),
    ),
    "instance report": Reader(HEAD, instances.read, around=((b"", b""), (b'{"v":1,"id":', b"}"))),
    "commit metadata": Reader(
        8_192,
        text(lambda raw: OffsetTracker(0, raw)),
        around=((b"", b""), (b"h1|0|", b""), (b"h1|0||", b"")),
    ),
    "object": Reader(
        objects.BYTES_MAX,
        objects.read_object,
        (objects.InvalidObject,),
        ((b"", b""), (b'{"a":', b"}")),
    ),
    "NATS credentials": Reader(
        credentials_file.BYTES_MAX,
        credentials_file.parse,
        (ValueError,),
        ((b"", b""), (b"BEGIN NATS USER JWT\n", b"\n"), (_CREDENTIALS, b"\n")),
    ),
}
"""All readers, by what they read."""

PATTERNS: dict[str, str] = {
    "headrace.adapters.nats.credentials_file._JWT_FORM": "NATS credentials",
    "headrace.adapters.nats.credentials_file._SEED_FORM": "NATS credentials",
    "headrace.codec.json_text._whitespace": "JSON text",
    "headrace.codec.json_text._mark": "structured request",
    "headrace.codec.json_text._STRING": "JSON text",
    "headrace.codec.json_text._SURROGATE_ESCAPE": "JSON text",
    "headrace.codec.trace_context._FORMAT": "traceparent",
    "headrace.codec.local_request._HOST": "Host, Origin and Sec-Fetch-Site",
    "headrace.domain.attributes._NAME": "attribute name",
    "headrace.domain.attributes._ABSOLUTE": "attribute dataschema",
    "headrace.domain.attributes._RELATIVE": "attribute source",
    "headrace.domain.attributes._BROKEN_PERCENT": "attribute source",
    "headrace.domain.attributes._TIMESTAMP": "timestamp",
    "headrace.domain.attributes._MEDIA_TYPE": "Content-Type",
    "headrace.domain.attributes._ENCODING": "attribute datacontentencoding",
    "headrace.domain.retry_after._SECONDS": "Retry-After",
    "headrace.domain.retry_after._FORMS": "HTTP date",
    "headrace.domain.cesql.functions.get_close_matches": "filters",
    "headrace_ingress.route_cache.get_close_matches": "unknown address",
}
"""Each use of a tool whose time may grow faster than its input, and the reader that shows that it
does not.
"""

NOT_OUTSIDE = frozenset({"headrace.runtime.failpoints.match"})
"""Uses that read no external input: the switch by which tests block an event loop matches its own
text.
"""

TOOLS = frozenset({"re", "regex", "difflib", "fnmatch", "glob", "shlex", "textwrap"})


@pytest.mark.parametrize(
    ("name", "place"),
    [(name, place) for name, reader in READERS.items() for place in range(len(reader.around))],
)
def test_a_reader_takes_time_in_proportion(name: str, place: int) -> None:
    """Every shape at one place, doubled up to the limit of the input."""
    reader = READERS[name]
    before, behind = reader.around[place]

    def read(raw: bytes) -> None:
        with suppress(*reader.raises):
            reader.read(raw)

    for shape in reader.shapes:
        build_shape = SHAPES[shape]
        try:
            assert_linear(
                lambda size: partial(read, before + build_shape(size) + behind),  # noqa: B023
                largest=reader.largest,
            )
        except Exception as error:
            error.add_note(f"{name}: {shape} after {before!r}")
            raise


def test_the_list_of_patterns_is_complete() -> None:
    """Every regular expression in a module that a data plane process imports is listed, and every
    listed one exists.
    """
    found = set(_used()) - NOT_OUTSIDE
    missing = sorted(found - PATTERNS.keys())
    assert not missing, (
        "show that these are linear: name each in PATTERNS with a row of READERS that reaches it:"
        f" {missing}"
    )
    assert sorted(PATTERNS.keys() - found) == [], "these no longer exist; remove them from the list"
    assert {name for name in PATTERNS.values() if name not in READERS} == set()


def _used() -> Iterator[str]:
    """The uses of `TOOLS`: by the variable that stores the result of a module-level call, otherwise
    by the name of the called function.
    """
    listing = (
        "import sys, headrace_ingress.__main__, headrace_ingress.app, headrace_dispatcher.__main__,"
        " headrace_dispatcher.app\nfor name, module in sorted(sys.modules.items()):\n    if"
        " name.startswith('headrace') and getattr(module, '__file__', None): print(name,"
        " module.__file__)"
    )
    lines = subprocess.run(
        [sys.executable, "-c", listing], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert len(lines) > 100
    for line in lines:
        module, _, file = line.partition(" ")
        tree = ast.parse(Path(file).read_text())
        named: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module in TOOLS:
                named.update(alias.asname or alias.name for alias in node.names)
        for statement in ast.walk(tree):
            for call in (
                part for part in ast.iter_child_nodes(statement) if isinstance(part, ast.Call)
            ):
                yield from (f"{module}.{use}" for use in _use(call, named, tree))


def _use(call: ast.Call, named: set[str], tree: ast.Module) -> Iterator[str]:
    function = call.func
    by_module = (
        isinstance(function, ast.Attribute)
        and isinstance(function.value, ast.Name)
        and function.value.id in TOOLS
    )
    by_name = isinstance(function, ast.Name) and function.id in named
    if not (by_module or by_name):
        return
    for statement in tree.body:
        if isinstance(statement, ast.Assign | ast.AnnAssign) and any(
            part is call for part in ast.walk(statement)
        ):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            yield from (target.id for target in targets if isinstance(target, ast.Name))
            return
    yield function.attr if isinstance(function, ast.Attribute) else function.id  # type: ignore[attr-defined] # one of the two
