"""Code of the control plane and the CLI that parses external input takes time proportional to its
size, whatever it contains.

`READERS` lists each parser with the maximal size of its input; every shape of `SHAPES`, and the
parser's own shapes, are doubled up to that size.
"""

import ast
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from headrace.adapters import maven
from headrace.adapters.manifests import read_manifests
from headrace.codec.objects import BYTES_MAX, DEPTH_MAX, VALUES_MAX, check_values, read_object
from headrace.domain.errors import HeadraceError
from headrace.domain.target_url import parse_target_url
from headrace.resources import (
    api_server_source,
    camel_source,
    github_source,
    kafka_sink,
    label_selector,
    webhook_source,
)
from headrace.resources.broker_config import (
    MAX_MESSAGE_BYTES,
    PARTITIONS_KEY,
    SETTING_PREFIX,
    read_config,
)
from headrace.resources.destination import Unresolved
from headrace.resources.destination import validate as validate_destination
from headrace.resources.durations import parse_duration, parse_go_duration
from headrace.resources.event_type import event_type_name
from headrace.resources.features import read_features
from headrace.resources.kinds import KAFKA_SINK
from headrace.resources.resource import Resource, ResourceKind
from headrace_apiserver.handlers.get import _decode_continue_token
from headrace_apiserver.kinds.catalog import version_order
from headrace_apiserver.patching.apply import WriteContext, applied, track_managed_fields
from headrace_apiserver.patching.field_set import read_fields as read_fields_v1
from headrace_apiserver.patching.field_set import write_fields
from headrace_apiserver.patching.patch import OPERATIONS_MAX, merged, patched
from headrace_apiserver.patching.strategic import strategically_merged
from headrace_apiserver.requests.decoding import DEFINITION_BYTES_MAX, _parse_json
from headrace_apiserver.requests.protobuf import decode_protobuf
from headrace_apiserver.requests.request_info import parse_request_info
from headrace_apiserver.requests.selectors import TEXT_MAX as SELECTOR_MAX
from headrace_apiserver.requests.selectors import read_fields, read_labels
from headrace_apiserver.responses import parse_accept
from headrace_apiserver.schemas import status_causes
from headrace_apiserver.schemas.cel import matches, pattern_problem, rule_problem
from headrace_apiserver.schemas.cel_text import RULE_MAX, read_rule
from headrace_apiserver.schemas.defaulting import defaulted
from headrace_apiserver.schemas.formats import FORMATS, has_format
from headrace_apiserver.schemas.metadata import metadata_problems
from headrace_apiserver.schemas.patterns import PATTERN_MAX, pattern_weight
from headrace_apiserver.schemas.pruning import pruned
from headrace_apiserver.schemas.schema import validate
from headrace_apiserver.schemas.structural import schema_problems
from headrace_apiserver.statuses import StatusError
from headrace_apiserver.tables.ages import age
from headrace_apiserver.tables.json_paths import PATH_MAX, JsonPath
from headrace_cli.client import warning_texts
from headrace_cli.filter import LINE_BYTES_MAX, InvalidCase, _case
from headrace_cli.filter_file import UnusableFilter
from headrace_cli.terminal import escape_controls, escape_json_controls, printable
from tests.support.complexity import assert_linear

GADGET = ResourceKind(
    group="shop.dev", version="v1", kind="Gadget", plural="gadgets", singular="gadget"
)

Shape = Callable[[int], str]
"""An adversarial text of approximately this many characters."""


def repeated(unit: str, *, before: str = "", after: str = "") -> Shape:
    """`unit` repeated."""
    return lambda size: (
        before + unit * (max(size - len(before) - len(after), 0) // len(unit)) + after
    )


SHAPES: Mapping[str, Shape] = {
    "one letter": repeated("a"),
    "letters, then a sign": repeated("a", after="!"),
    "digits": repeated("1", after="x"),
    "spaces": repeated(" "),
    "spaces, then a letter": repeated(" ", after="a"),
    "tabs and spaces": repeated("\t "),
    "lines": repeated("\n"),
    "unclosed quote": repeated("a", before='"'),
    "escaped quotes, unclosed": repeated('\\"', before='"'),
    "escaped letters, unclosed triple quote": repeated("\\a", before='"""'),
    "quotes": repeated('"'),
    "single quotes": repeated("'"),
    "both quotes in turn": repeated("\"'"),
    "backslashes": repeated("\\"),
    "opening brackets": repeated("["),
    "opening braces": repeated("{"),
    "opening parentheses": repeated("("),
    "pairs of brackets": repeated("[]"),
    "commas": repeated(","),
    "dots": repeated("."),
    "letters and dots": repeated("a."),
    "letters and hyphens": repeated("a-", after="!"),
    "slashes": repeated("/"),
    "equals signs": repeated("="),
    "percent": repeated("%"),
    "at signs": repeated("a@"),
    "colons": repeated("a:"),
    "outside of ASCII": repeated("é"),
}


@dataclass(frozen=True)
class Reader:
    """A parser of external text."""

    read: Callable[[str], object]
    largest: int
    """Characters of the largest text that it gets."""
    own: Mapping[str, Shape] = field(default_factory=dict)
    """Shapes specific to its grammar."""
    patterns: tuple[str, ...] = ()
    """Regular expressions that it uses, by module and name."""


NOW = datetime(2026, 1, 1, tzinfo=UTC)
WRITE = WriteContext(manager="m", api_version="v1", now="2026-01-01T00:00:00Z")
FREE = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
SETS = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {
                "set": {
                    "type": "array",
                    "x-kubernetes-list-type": "set",
                    "items": {"type": "string"},
                },
                "map": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["k"],
                    "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": FREE}},
                },
                "any": FREE,
            },
        }
    },
}
SERVICE = ResourceKind(
    group="", version="v1", kind="Service", plural="services", singular="service"
)
BROKEN = (
    ValueError,
    TypeError,
    KeyError,
    LookupError,
    RecursionError,
    StatusError,
    HeadraceError,
    UnusableFilter,
    InvalidCase,
    Unresolved,
)
"""What a parser may raise; only the time counts here."""


def _bytes(read: Callable[[bytes], object], before: bytes = b"") -> Callable[[str], object]:
    return lambda text: read(before + text.encode("utf-8", "replace"))


def _metadata(text: str) -> object:
    fields = {
        "name": text,
        "generateName": text,
        "labels": {text: text},
        "annotations": {text: text},
        "finalizers": [text],
    }
    return metadata_problems(
        GADGET,
        {
            **fields,
            "ownerReferences": [{"apiVersion": text, "kind": text, "name": text, "uid": text}],
        },
        None,
    )


def _path(text: str) -> object:
    return JsonPath(text).find({"a": [{"a": 1}] * 10})


def _formats(text: str) -> object:
    return [has_format(text, name) for name in FORMATS]


def _destination(text: str) -> object:
    found = validate_destination(
        {"uri": text, "CACerts": f"-----BEGIN CERTIFICATE-----{text}", "ref": {"name": text}},
        "spec",
    )
    return found, validate_destination({"uri": f"http://{text}"}, "spec")


def _kafka_sink(topic: str) -> object:
    return kafka_sink.validate(Resource(KAFKA_SINK, {"spec": {"topic": topic}, "metadata": {}}))


def _broker_config(text: str) -> object:
    return read_config(
        {
            text: text,
            MAX_MESSAGE_BYTES: text,
            f"{SETTING_PREFIX}{MAX_MESSAGE_BYTES}": text,
            PARTITIONS_KEY: "3",
        },
        brokers=3,
    )


def _causes(text: str) -> object:
    return [
        status_causes.invalid("spec", text, "no"),
        status_causes.not_supported("spec", text, [text] * 5),
        status_causes.duplicate("spec", {text: text}),
    ]


def _scheme(text: str) -> object:
    return matches("^[a-z]+([-.][a-z]+)*$", text), matches("(a+)+$", text)


READERS: Mapping[str, Reader] = {
    "rule in CEL": Reader(
        read_rule,
        RULE_MAX,
        own={
            "unclosed raw triple quote": repeated('""a', before='r"""'),
            "triple quotes between escapes": repeated("\\'''", before="'''"),
            "empty strings": repeated("''"),
            "prefixes of strings": repeated('rb"'),
            "remarks": repeated("//\n"),
            "field names": repeated(".a__dot__"),
            "patterns": repeated("matches('(a?){9}')||"),
        },
        patterns=("cel_text:_TOKEN", "cel_text:_ESCAPE"),
    ),
    "rule in CEL, compiled": Reader(
        rule_problem,
        RULE_MAX,
        own={"sum": repeated("1+", after="1"), "not": repeated("!", after="true")},
    ),
    "weight of a pattern": Reader(
        pattern_weight.__wrapped__,
        RULE_MAX,
        own={"classes": repeated("[[:a:]"), "counts": repeated("a{9,")},
    ),
    "pattern of a schema": Reader(pattern_problem, PATTERN_MAX),
    "text against a pattern": Reader(_scheme, BYTES_MAX),
    "formats of a schema": Reader(
        _formats,
        BYTES_MAX,
        own={
            "times": repeated("1h", before="+"),
            "fractions": repeated("1.", after="h"),
            "labels": repeated("a-a.", after="!"),
            "pairs of digits": repeated("00:"),
            "spaces before a unit": repeated(" ", before="1", after="x"),
            "seconds": repeated("9", before="2026-01-01T00:00:00.", after="x"),
            "base64": repeated("QUJD"),
            "ports": repeated(":1", before="http://a"),
        },
        patterns=tuple(
            f"formats:{name}"
            for name in (
                "_UUID",
                "_LABEL",
                "_GO_DURATION",
                "_WORDY_DURATION",
                "_MAC",
                "_INSTANT",
                "_EMAIL",
            )
        ),
    ),
    "metadata": Reader(
        _metadata,
        BYTES_MAX,
        own={"labels": repeated("a-a.", after="!"), "underscores": repeated("a_", after="!")},
        patterns=("metadata:_COMPILED",),
    ),
    "label selector": Reader(
        read_labels,
        SELECTOR_MAX,
        own={
            "spaces between words": lambda size: (
                "a" + " " * (size // 2) + "in" + " " * (size // 2) + "(b)"
            ),
            "open list": repeated("b,", before="a in ("),
            "lists": repeated("a in (b),", after="c"),
            "prefix": lambda size: "a." * min(size // 2, 120) + "/" + "b" * (size // 2),
        },
        patterns=("selectors:_TOKEN", "selectors:_NAME", "selectors:_SUBDOMAIN"),
    ),
    "field selector": Reader(
        lambda text: read_fields(text, GADGET),
        SELECTOR_MAX,
        own={
            "escapes": repeated("\\,", before="metadata.name="),
            "terms": repeated("metadata.name=a,"),
            "no sign": repeated("a\\,"),
        },
    ),
    "path of a printer column": Reader(
        _path,
        PATH_MAX,
        own={
            "spaces in a filter": repeated(" ", before="[?(@.a"),
            "filters": repeated("[?(@.a==1)]"),
            "unclosed filter": repeated("'", before="[?(@.a=="),
            "wildcards": repeated("[*]"),
            "escaped dots": repeated("\\."),
            "quoted": repeated("['a']"),
        },
        patterns=tuple(
            f"json_paths:{name}"
            for name in ("_FIELD", "_INDEX", "_WILDCARD", "_QUOTED", "_FILTER", "_ESCAPE")
        ),
    ),
    "JSON body": Reader(
        _bytes(_parse_json),
        DEFINITION_BYTES_MAX,
        own={
            "brackets, then an unclosed string": repeated('\\"', before="[" * 60 + '{"a":"'),
            "many brackets, then an unclosed string": repeated('\\"', before="[" * 101 + '"'),
            "digits": repeated("9", before="[", after="]"),
            "fraction": repeated("9", before="[0.", after="]"),
            "exponent": repeated("9", before="[1e", after="]"),
            "zeros": repeated("0", before="[1.", after="1]"),
            "numbers": repeated("1,", before="[", after="1]"),
            "one key": repeated('"a":1,', before="{", after='"a":1}'),
            "nested keys": repeated('{"a":'),
            "escapes": repeated("\\u0041", before='["', after='"]'),
            "halves": repeated("\\ud800", before='["', after='"]'),
        },
        patterns=("objects:_STRING", "objects:_SURROGATE"),
    ),
    "stored object": Reader(
        _bytes(read_object),
        BYTES_MAX,
        own={"strings": repeated('"a",', before='{"a":[', after='""]}')},
    ),
    "manifest": Reader(
        _bytes(lambda text: read_manifests(text, "f.yaml")),
        BYTES_MAX,
        own={
            "base 60": repeated(":00", before="a: 1"),
            "underscores": repeated("_", before="a: 1", after="x"),
            "dots and digits": repeated("1_", before="a: .", after="x"),
            "sequences": repeated("- "),
            "keys": repeated("? "),
            "folded lines": repeated("a\n", before="a: "),
            "blank lines in text": repeated(" \n", before='a: "'),
            "block text": repeated(" a\n", before="a: |\n"),
            "open flow": repeated("a,", before="["),
            "documents": repeated("---\n"),
            "anchors": repeated("&a "),
            "tags": repeated("!a "),
            "comments": repeated("#\n"),
            "escapes": repeated("\\u0041", before='"'),
            "directives": repeated("%a\n"),
            "flow mappings": repeated("{a: ", before=""),
            "pairs": repeated("a: b\n", before=""),
        },
        patterns=("yaml_text:_INTEGER", "yaml_text:_FLOAT", "yaml_text:_SURROGATE"),
    ),
    "protobuf": Reader(
        _bytes(decode_protobuf, b"k8s\x00\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12"),
        BYTES_MAX,
        own={
            "fields": repeated("\n\x00"),
            "varints": repeated("\x08\x7f"),
            "messages": repeated("\x12\x02\n\x00"),
        },
    ),
    "destination": Reader(
        _destination, BYTES_MAX, own={"blocks": repeated("-----BEGIN CERTIFICATE-----")}
    ),
    "URL of a target": Reader(
        parse_target_url,
        BYTES_MAX,
        own={
            "ports": repeated(":1", before="http://a"),
            "brackets": repeated("[", before="http://"),
        },
    ),
    "step of the path of a webhook's attribute": Reader(
        webhook_source._PATH,
        BYTES_MAX,
        own={
            "names": repeated("a", before="$.", after="!"),
            "steps": repeated(".a", after="!"),
            "indexes": repeated("[1]", after="!"),
        },
        patterns=("webhook_source:_PATH", "webhook_source:_NAME"),
    ),
    "name of a webhook's attribute": Reader(webhook_source._NAME, BYTES_MAX),
    "dependency of a Camel route": Reader(
        camel_source._DEPENDENCY,
        BYTES_MAX,
        own={"parts": repeated("a:a:", after="!")},
        patterns=("camel_source:_DEPENDENCY",),
    ),
    "repository at GitHub": Reader(
        github_source._OWNER_AND_REPOSITORY,
        BYTES_MAX,
        patterns=("github_source:_OWNER_AND_REPOSITORY",),
    ),
    "version of a watched kind": Reader(
        api_server_source._API_VERSION,
        BYTES_MAX,
        patterns=("api_server_source:_API_VERSION",),
    ),
    "label": Reader(
        label_selector._NAME,
        BYTES_MAX,
        own={"hyphens": repeated("a-", after="!")},
        patterns=("label_selector:_NAME", "label_selector:_PREFIX"),
    ),
    "prefix of a label": Reader(label_selector._PREFIX, BYTES_MAX),
    "version that Java prints": Reader(
        maven._JAVA_VERSION,
        65_536,
        own={"versions": repeated('version "1.')},
        patterns=("maven:_JAVA_VERSION",),
    ),
    "duration": Reader(
        parse_duration,
        BYTES_MAX,
        own={"numbers": repeated("1", before="P", after="X")},
        patterns=("durations:_DURATION",),
    ),
    "duration of Go": Reader(
        parse_go_duration,
        BYTES_MAX,
        own={"numbers": repeated("1h", after="X")},
        patterns=("durations:_GO_DURATION", "durations:_GO_PART"),
    ),
    "age": Reader(lambda text: age(text, NOW), BYTES_MAX),
    "quoted path in a cause": Reader(_causes, BYTES_MAX),
    "configuration of a Broker": Reader(_broker_config, BYTES_MAX),
    "topic of a KafkaSink": Reader(
        _kafka_sink,
        BYTES_MAX,
        own={"letters": repeated("a")},
        patterns=("kafka_sink:_LEGAL_TOPIC",),
    ),
    "flags": Reader(lambda text: read_features({"kreference-group": text, text: text}), BYTES_MAX),
    "name of an EventType": Reader(lambda text: event_type_name(text, text, text, text), BYTES_MAX),
    "version of a kind": Reader(version_order, BYTES_MAX),
    "target of a request": Reader(lambda text: parse_request_info("g", "v1", text), 65_536),
    "Accept": Reader(
        parse_accept,
        65_536,
        own={"ranges": repeated("a/b;c=d,"), "parameters": repeated(";a=b", before="a/b")},
    ),
    "continue token": Reader(_decode_continue_token, 65_536),
    "element of an owned field": Reader(
        lambda text: read_fields_v1({f"k:{text}": {}, f"v:{text}": {}, f"f:{text}": {}}), BYTES_MAX
    ),
    "warnings of the API": Reader(
        lambda text: warning_texts([text]),
        65_536,
        own={
            "warnings": repeated('299 a "b", '),
            "agents": repeated("299 a"),
            "quotes": repeated('299 a "'),
            "escapes": repeated("\\\\", before='299 a "'),
        },
        patterns=("client:_WARNING", "client:_ESCAPED"),
    ),
    "case of the filter command": Reader(_bytes(_case), LINE_BYTES_MAX // 8),
    "neutral text": Reader(
        lambda text: (escape_controls(text), escape_json_controls(text), printable(text, 10_000)),
        BYTES_MAX,
    ),
}

CASES = [(name, shape) for name, reader in READERS.items() for shape in (*SHAPES, *reader.own)]


@pytest.mark.parametrize(
    ("name", "shape"), CASES, ids=[f"{name}: {shape}" for name, shape in CASES]
)
def test_time_grows_with_the_text_at_most(name: str, shape: str) -> None:
    reader = READERS[name]
    make = reader.own.get(shape) or SHAPES[shape]

    def prepare(size: int) -> Callable[[], object]:
        text = make(min(size, reader.largest))

        def work() -> None:
            with suppress(*BROKEN):
                reader.read(text)

        return work

    # One size more than the largest: refusing a text beyond the limit must not cost more than
    # reading it.
    assert_linear(prepare, largest=2 * reader.largest)


def _many(count: int, make: Callable[[int], Any]) -> list[Any]:
    return [make(number) for number in range(count)]


def _json_patch(count: int, operation: Callable[[int], dict[str, Any]]) -> Callable[[], object]:
    document = {
        "list": list(range(min(count, 9_000))),
        "map": {f"k{number}": 1 for number in range(min(count, 5_000))},
    }
    operations = _many(min(count, OPERATIONS_MAX), operation)
    return lambda: patched(document, operations)


def _ports(
    count: int, *, before: Callable[[int], Any], wanted: Callable[[int], Any]
) -> Callable[[], object]:
    target = {"spec": {"ports": _many(count, before)}}
    patch = {
        "spec": {"ports": _many(count, wanted), "$setElementOrder/ports": _many(count, wanted)}
    }
    return lambda: strategically_merged(SERVICE, target, patch)


def _object(count: int, *, shift: int = 0, same: bool = False) -> dict[str, Any]:
    numbers = range(shift, shift + count)
    spec = {
        "set": [f"s{0 if same else number}" for number in numbers],
        "map": [{"k": f"k{number}", "v": {"a": number}} for number in reversed(numbers)],
        "any": {f"f{number}": number for number in numbers},
    }
    return {"apiVersion": "shop.dev/v1", "kind": "Gadget", "metadata": {"name": "x"}, "spec": spec}


def _applying(count: int) -> Callable[[], object]:
    live = track_managed_fields(None, _object(count), SETS, WRITE)
    once = applied(live, _object(count, shift=count // 2), SETS, WRITE, force=True)
    return lambda: applied(once, _object(count, shift=count // 4), SETS, WRITE, force=True)


def _deep(count: int) -> Callable[[], object]:
    deep: Any = {f"f:n{number}": {} for number in range(count)}
    for _ in range(DEPTH_MAX - 4):
        deep = {"f:a": deep}
    return lambda: write_fields(read_fields_v1(deep))


def _definition(count: int) -> Callable[[], object]:
    fields = {
        f"f{number}": {"type": "string", "pattern": f"^a{number}$"} for number in range(count)
    }
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": fields}}}
    return lambda: schema_problems(schema, "schema", rule=rule_problem, pattern=pattern_problem)


def _checked(
    count: int, items: dict[str, Any], entry: Callable[[int], Any]
) -> Callable[[], object]:
    schema = {
        "type": "object",
        "properties": {"list": {"type": "array", "x-kubernetes-list-type": "set", "items": items}},
    }
    document = {"list": _many(count, entry)}

    def work() -> object:
        kept, unknown = pruned(document, schema, whole=False)
        return validate(defaulted(kept, schema), schema, matches=matches), unknown

    return work


COLLECTIONS: Mapping[str, tuple[Callable[[int], Callable[[], object]], int]] = {
    "JSON patch that inserts at the beginning": (
        lambda n: _json_patch(n, lambda _: {"op": "add", "path": "/list/0", "value": 1}),
        OPERATIONS_MAX,
    ),
    "JSON patch that tests the whole": (
        lambda n: _json_patch(n, lambda _: {"op": "test", "path": "/map/k0", "value": 1}),
        OPERATIONS_MAX,
    ),
    "JSON patch that moves": (
        lambda n: _json_patch(
            n, lambda i: {"op": "move", "from": f"/map/k{i}", "path": f"/map/m{i}"}
        ),
        5_000,
    ),
    "JSON patch with escaped paths": (
        lambda n: _json_patch(n, lambda _: {"op": "add", "path": "/map/" + "~1" * 20, "value": 1}),
        OPERATIONS_MAX,
    ),
    "merge patch": (
        lambda n: partial(
            merged, {"a": {f"k{i}": i for i in range(n)}}, {"a": {f"k{i}": None for i in range(n)}}
        ),
        VALUES_MAX,
    ),
    "strategic merge patch of one port": (
        lambda n: _ports(
            n,
            before=lambda i: {"port": 53, "protocol": "TCP", "name": i},
            wanted=lambda i: {"port": 53, "protocol": "TCP"},
        ),
        4_000,
    ),
    "strategic merge patch that deletes one port": (
        lambda n: _ports(
            n,
            before=lambda i: {"port": 53, "name": i},
            wanted=lambda i: {"port": 53, "$patch": "delete"},
        ),
        4_000,
    ),
    "strategic merge patch of many ports": (
        lambda n: _ports(
            n,
            before=lambda i: {"port": i, "protocol": "TCP"},
            wanted=lambda i: {"port": n - i, "protocol": "UDP"},
        ),
        4_000,
    ),
    "server-side apply": (_applying, 2_000),
    "tracking of owners": (
        lambda n: partial(track_managed_fields, _object(n), _object(n, shift=n // 2), SETS, WRITE),
        2_000,
    ),
    "tracking of entries that are all the same": (
        lambda n: partial(
            track_managed_fields, _object(n, same=True), _object(n, same=True), SETS, WRITE
        ),
        2_000,
    ),
    "owned fields far down": (_deep, 5_000),
    "schema of a definition": (_definition, 8_000),
    "list of texts under a schema": (
        lambda n: _checked(
            n, {"type": "string", "pattern": "^a+$", "format": "date"}, lambda i: f"a{i}"
        ),
        VALUES_MAX,
    ),
    "list of objects under a schema": (
        lambda n: _checked(
            n,
            {
                "type": "object",
                "required": ["x"],
                "properties": {"a": {"type": "integer", "default": 1}},
            },
            lambda i: {"b": i},
        ),
        VALUES_MAX // 2,
    ),
    "values of a document": (
        lambda n: partial(check_values, {"a": [{"b": "x" * 10}] * n}),
        VALUES_MAX,
    ),
    "repeated keys": (
        lambda n: partial(_parse_json, ("{" + ",".join('"a":1' for _ in range(n)) + "}").encode()),
        VALUES_MAX,
    ),
    "label selector of many values": (
        lambda n: partial(read_labels, "a in (" + ",".join(f"v{i}" for i in range(n)) + ")"),
        SELECTOR_MAX // 6,
    ),
}
"""Parsers of lists or trees, with the maximal number of parts."""


@pytest.mark.parametrize("name", COLLECTIONS)
def test_time_grows_with_the_parts_at_most(name: str) -> None:
    prepare, largest = COLLECTIONS[name]

    def quiet(count: int) -> Callable[[], object]:
        work = prepare(count)

        def once() -> None:
            with suppress(*BROKEN):
                work()

        return once

    assert_linear(quiet, largest=largest)


ROOT = Path(__file__).parents[2]
_DOMAIN = sorted((ROOT / "src/headrace/domain").glob("*.py"))
WALKED = (
    *sorted((ROOT / "services/apiserver/headrace_apiserver").rglob("*.py")),
    *sorted((ROOT / "services/controller/headrace_controller").rglob("*.py")),
    *sorted((ROOT / "cli/headrace_cli").rglob("*.py")),
    *sorted((ROOT / "src/headrace/adapters").glob("*.py")),
    *sorted((ROOT / "src/headrace/adapters/kubernetes").rglob("*.py")),
    *sorted((ROOT / "src/headrace/adapters/memory").rglob("*.py")),
    *(ROOT / f"src/headrace/codec/{name}.py" for name in ("objects", "routing")),
    *sorted((ROOT / "src/headrace/resources").rglob("*.py")),
    *(path for path in _DOMAIN if path.stem not in ("attributes", "retry_after")),
)
"""All but the data plane's modules, which have their own table."""


def _patterns(path: Path) -> Iterator[str]:
    """The regular expressions that a module compiles or uses, by their variable, or by line if they
    have none.
    """
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        made = [
            each for each in ast.walk(node) if isinstance(each, ast.Call) and _is_regular(each.func)
        ]
        if isinstance(node, ast.Assign | ast.AnnAssign) and made:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            yield f"{path.stem}:{ast.unparse(target)}"
        elif isinstance(node, ast.Return | ast.Expr) and made:
            yield f"{path.stem}:line {node.lineno}"


def _is_regular(function: ast.expr) -> bool:
    return (
        isinstance(function, ast.Attribute)
        and ast.unparse(function.value) == "re"
        and function.attr not in ("escape", "purge")
    )


def test_every_pattern_has_a_reader() -> None:
    """A regular expression that no parser of the table uses is not shown to be linear."""
    found = {name for path in WALKED for name in _patterns(path)}
    assert found == {name for reader in READERS.values() for name in reader.patterns}
