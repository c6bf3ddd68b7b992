"""The routes that Camel gets: those of the resource, with the sink at their end, and the one that
posts to the endpoint of this process.

Routes send to the sink by `direct:sink`, or by `knative:endpoint/sink` as in Knative's CamelSource.
A route that does neither gets it as its last step.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from headrace.adapters.yaml_text import InvalidYaml, read_yaml
from headrace_sources.adapters.camel.config import CamelConfig
from headrace_sources.adapters.camel.endpoint import EXCHANGE_HEADER
from headrace_sources.source import SourceFault

SINK_URI: Final = "direct:sink"
KNATIVE_SCHEME: Final = "knative"
INVALID: Final = "InvalidRoute"
DEPTH_MAX: Final = 64
NODES_MAX: Final = 20_000
_URI_KEYS: Final = frozenset(
    ("uri", "from", "to", "toD", "wireTap", "enrich", "pollEnrich", "poll", "interceptFrom")
)
_INNER: Final = frozenset(("direct", "seda", "vm"))
"""A route that starts there continues another one, which may go to the sink itself."""
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_STEP: Final = re.compile(r"[a-z]+(?:-[a-z]+)+")
_CLOUD_EVENT_HEADERS: Final = ("id", "source", "type", "subject", "time")
"""What Camel's `application-cloudevents` transformers set as `CamelCloudEventId` and so on."""


class Routes(NamedTuple):
    """Files of routes, and what they use."""

    files: Mapping[str, str]
    schemes: frozenset[str]
    names: frozenset[str]
    """Keys that may be languages or data formats."""
    other_languages: frozenset[str]
    """Ends of the names of files that are not YAML."""


def routes_of(config: CamelConfig) -> Routes:
    """Read the routes of a source. Raises `SourceFault`."""
    if config.uri:
        document = [{"route": {"from": {"uri": config.uri, "steps": [{"to": SINK_URI}]}}}]
        return _routes({"uri.yaml": document}, {})
    if config.route:
        return _routes({"route.yaml": parse(config.route, "spec.route")}, {})
    documents, others = {}, {}
    for index, file in enumerate(config.files):
        language = file.name.rpartition(".")[2].lower()
        name = f"source-{index}.{language}"
        if language in ("yaml", "yml"):
            documents[name] = parse(file.content, file.name)
        else:
            others[name] = file.content
    return _routes(documents, others)


def parse(text: str, field: str) -> list[Any]:
    """Read routes in the YAML DSL. Raises `SourceFault` that names the field and the line."""
    found: list[Any] = []
    try:
        for document in read_yaml(text, depth_max=DEPTH_MAX, nodes_max=NODES_MAX):
            found += document.value if isinstance(document.value, list) else [document.value]
    except InvalidYaml as error:
        line = f", line {error.line}" if error.line else ""
        raise SourceFault(INVALID, f"{field}{line}: {error}") from None
    for each in found:
        if not isinstance(each, Mapping):
            raise SourceFault(
                INVALID, f"{field}: a route is a mapping with `from` or `route`, not {each!r:.60}"
            )
    if not any("from" in each or "route" in each for each in found):
        raise SourceFault(INVALID, f"{field} has no route: an entry `from` with `uri` and `steps`")
    return found


def sink_routes(url: str) -> list[dict[str, Any]]:
    """Return the routes that post to an URL. What Camel passes on as headers of HTTP are the
    attributes and the content type; the rest may be secrets of the route.
    """
    attributes = [_attribute_from_header(each) for each in _CLOUD_EVENT_HEADERS]
    steps: list[dict[str, Any]] = [
        *attributes,
        {
            "choice": {
                "when": [
                    {
                        "simple": "${body} is 'java.util.Map' || ${body} is 'java.util.Collection'",
                        "steps": [
                            {"marshal": {"json": {"library": "Jackson"}}},
                            _header("Content-Type", "constant", "application/json"),
                        ],
                    },
                    {
                        "simple": "${body} is 'java.lang.String' && ${header.Content-Type} == null",
                        "steps": [_header("Content-Type", "constant", "text/plain; charset=utf-8")],
                    },
                ]
            }
        },
        {"convertBodyTo": {"type": "byte[]", "charset": "UTF-8", "mandatory": False}},
        {"removeHeaders": {"pattern": "*", "excludePattern": "(?i)(ce-[a-z0-9]+|content-type)"}},
        _header("CamelHttpMethod", "constant", "POST"),
        _header(EXCHANGE_HEADER, "simple", "${exchangeId}"),
        {"to": url},
    ]
    # Failures are those of the route that sends: its error handler redelivers.
    sink = {"from": {"uri": SINK_URI, "steps": steps}, "errorHandler": {"noErrorHandler": {}}}
    return [{"route": {"id": "headrace-sink", **sink}}]


def knative_route() -> dict[str, Any]:
    """The route behind `knative:endpoint/sink`."""
    return {
        "route": {
            "id": "headrace-knative-sink",
            "from": {"uri": f"{KNATIVE_SCHEME}:endpoint/sink", "steps": [{"to": SINK_URI}]},
            "errorHandler": {"noErrorHandler": {}},
        }
    }


def _attribute_from_header(name: str) -> dict[str, Any]:
    header = f"CamelCloudEvent{name.capitalize()}"
    camel = header if name != "id" else "CamelCloudEventID"
    condition = f"${{header.{camel}}} != null && ${{header.ce-{name}}} == null"
    step = _header(f"ce-{name}", "simple", f"${{header.{camel}}}")
    return {"choice": {"when": [{"simple": condition, "steps": [step]}]}}


def _header(name: str, language: str, value: str) -> dict[str, Any]:
    return {"setHeader": {"name": name, language: value}}


def _routes(documents: Mapping[str, list[Any]], others: Mapping[str, str]) -> Routes:
    documents = {name: _with_camel_case_steps(each) for name, each in documents.items()}
    if not any(_names_sink(each) for each in documents.values()) and not others:
        documents = {name: [*map(_ending_in_sink, each)] for name, each in documents.items()}
    schemes: set[str] = set()
    names: set[str] = set()
    for key, value in _members([*documents.values()]):
        names.add(key)
        if key in _URI_KEYS and isinstance(value, str) and (found := _SCHEME.match(value)):
            schemes.add(found[1])
    knative = KNATIVE_SCHEME in schemes or any(
        f"{KNATIVE_SCHEME}:" in each for each in others.values()
    )
    files = {name: json.dumps(each) for name, each in documents.items()} | dict(others)
    if knative:
        files["knative.yaml"] = json.dumps([knative_route()])
    languages = frozenset(name.rpartition(".")[2] for name in others)
    return Routes(files, frozenset(schemes - {KNATIVE_SCHEME}), frozenset(names), languages)


def _members(value: Any) -> Iterator[tuple[str, Any]]:
    """All members of all mappings."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield str(key), each
            yield from _members(each)
    elif isinstance(value, list):
        for each in value:
            yield from _members(each)


def _names_sink(document: list[Any]) -> bool:
    return any(
        key in _URI_KEYS
        and isinstance(value, str)
        and (value.startswith((SINK_URI, f"{KNATIVE_SCHEME}:")))
        for key, value in _members(document)
    )


def _ending_in_sink(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """Append the sink to the steps of a route."""
    if isinstance(entry.get("route"), Mapping):
        return {**entry, "route": _ending_in_sink(entry["route"])}
    start = entry.get("from")
    if isinstance(start, str):
        start = {"uri": start}
    if not isinstance(start, Mapping) or _scheme(start.get("uri")) in _INNER:
        return entry
    # `steps` may be beside `from` too.
    holder = entry if "steps" in entry else start
    steps = [*(holder.get("steps") or []), {"to": SINK_URI}]
    if holder is entry:
        return {**entry, "from": start, "steps": steps}
    return {**entry, "from": {**start, "steps": steps}}


def _scheme(uri: Any) -> str:
    found = _SCHEME.match(uri) if isinstance(uri, str) else None
    return found[1] if found else ""


def _with_camel_case_steps(value: Any) -> Any:
    """Write the names of steps as today's Camel does: `set-body` was one in Knative's time."""
    if isinstance(value, list):
        return [_with_camel_case_steps(each) for each in value]
    if not isinstance(value, Mapping):
        return value
    return {
        key: [*map(_camel_case_step, map(_with_camel_case_steps, each))]
        if key == "steps" and isinstance(each, list)
        else _with_camel_case_steps(each)
        for key, each in value.items()
    }


def _camel_case_step(step: Any) -> Any:
    if not isinstance(step, Mapping):
        return step
    return {
        re.sub("-([a-z])", lambda found: found[1].upper(), key)
        if isinstance(key, str) and _STEP.fullmatch(key)
        else key: value
        for key, value in step.items()
    }
