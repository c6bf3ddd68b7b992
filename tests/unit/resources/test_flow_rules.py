"""The rules of Sequences and Parallels: defaults, and errors that name the field."""

from typing import Any

import pytest

from headrace.domain.field_errors import render
from headrace.resources import parallel, sequence
from headrace.resources.channel_defaults import ChannelDefaults
from headrace.resources.kind_rules import KindRules, default_and_validate
from headrace.resources.kinds import PARALLEL, SEQUENCE
from headrace.resources.resource import Resource, ResourceKind
from headrace.resources.system_config import BUILT_IN, SystemConfig

GOOD = {"uri": "http://a.example/"}
REF = {"apiVersion": "v1", "kind": "Service", "name": "a"}
NO_NAME = {"ref": {"apiVersion": "v1", "kind": "Service"}}
RULES = {SEQUENCE: sequence.RULES, PARALLEL: parallel.RULES}


def checked(kind: ResourceKind, spec: Any, system: SystemConfig = BUILT_IN) -> tuple[Resource, str]:
    """The defaulted object, and its errors as one text."""
    rules: KindRules = RULES[kind]
    metadata = {"name": "f", "namespace": "shop"}
    defaulted, errors = default_and_validate(
        Resource(kind, {"metadata": metadata, "spec": spec}), rules, system
    )
    return defaulted, render(errors)


def branch(**fields: Any) -> dict[str, Any]:
    """A spec with one branch."""
    return {"branches": [{"subscriber": GOOD, **fields}]}


@pytest.mark.parametrize(
    ("kind", "spec", "error"),
    [
        (SEQUENCE, {}, "missing field(s): spec.steps"),
        (SEQUENCE, {"steps": []}, "missing field(s): spec.steps"),
        (PARALLEL, {}, "missing field(s): spec.branches"),
        (
            SEQUENCE,
            {"steps": [GOOD, NO_NAME]},
            'invalid value: {"ref": {"apiVersion": "v1", "kind": "Service", "namespace": "shop"}}:'
            " spec.steps[1]\nmissing field(s): spec.steps[1].ref.name",
        ),
        (
            SEQUENCE,
            {"steps": [{}]},
            "invalid value: {}: spec.steps[0]\nexpected at least one, got none: spec.steps[0].ref,"
            " spec.steps[0].uri",
        ),
        (SEQUENCE, {"steps": [7]}, "invalid value: 7: spec.steps[0]"),
        (SEQUENCE, {"steps": [GOOD] * 65}, "invalid value: 65: spec.steps\nexpected at most 64"),
        (
            SEQUENCE,
            {"steps": [{**GOOD, "delivery": {"retry": -1}}]},
            "invalid value: -1: spec.steps[0].delivery.retry",
        ),
        (
            SEQUENCE,
            {"steps": [GOOD], "channelTemplate": {"kind": "KafkaChannel"}},
            "missing field(s): spec.channelTemplate.apiVersion",
        ),
        (
            SEQUENCE,
            {"steps": [GOOD], "reply": {"uri": "/x"}},
            "invalid value: Relative URI is not allowed when Ref and [apiVersion, kind, name] is"
            " absent: spec.reply.uri",
        ),
        (
            PARALLEL,
            branch(filter=NO_NAME),
            ": spec.branches.filter[0]\nmissing field(s): spec.branches[0].filter.ref.name",
        ),
        (PARALLEL, {"branches": [{}]}, "missing field(s): spec.branches[0].subscriber"),
        (PARALLEL, branch(reply={}), ": spec.branches.reply[0]"),
        (
            PARALLEL,
            branch(delivery={"timeout": "soon"}),
            "invalid value: soon: spec.branches[0].delivery.timeout",
        ),
        (PARALLEL, {"branches": ["x"]}, ": spec.branches.subscriber[0]"),
        (SEQUENCE, {"steps": {}}, "must be of type array"),
    ],
)
def test_an_error_has_knatives_headline_and_names_the_field(
    kind: ResourceKind, spec: Any, error: str
) -> None:
    """Knative shows the whole entry; which of its fields is wrong stands below."""
    assert error in checked(kind, spec)[1]


def test_references_get_a_namespace_and_the_flow_a_template() -> None:
    """The template of its namespace; what is given stays."""
    template = {"apiVersion": "messaging.knative.dev/v1", "kind": "KafkaChannel", "spec": {"a": 1}}
    system = SystemConfig(channel_defaults=ChannelDefaults(namespaces={"shop": template}))
    ref, sink = {"ref": REF}, {"deadLetterSink": {"ref": REF}}
    full = {"ref": {**REF, "namespace": "shop"}}
    made, errors = checked(SEQUENCE, {"steps": [{**ref, "delivery": sink}], "reply": ref}, system)
    assert ("", template) == (errors, made.spec["channelTemplate"])
    assert [{**full, "delivery": {"deadLetterSink": full}}] == made.spec["steps"]
    assert full == made.spec["reply"]
    made, errors = checked(PARALLEL, branch(subscriber=ref, filter=ref, reply=ref, delivery=sink))
    assert "" == errors
    assert {
        "subscriber": full,
        "filter": full,
        "reply": full,
        "delivery": {"deadLetterSink": full},
    } == made.spec["branches"][0]
    assert "KafkaChannel" == made.spec["channelTemplate"]["kind"]


def test_urls_that_can_never_be_called_are_warned_about() -> None:
    """By the path of each."""
    never = {"uri": "mailto://someone"}
    steps = [{**never, "delivery": {"deadLetterSink": never}}]
    made, errors = checked(SEQUENCE, {"steps": steps, "reply": never})
    paths = [text.rpartition("change ")[2] for text in sequence.RULES.warnings(made)]
    assert "" == errors
    assert [
        "spec.reply.uri",
        "spec.steps[0].uri",
        "spec.steps[0].delivery.deadLetterSink.uri",
    ] == paths
    made, _ = checked(PARALLEL, branch(filter=never))
    (warning,) = parallel.RULES.warnings(made)
    assert "spec.branches[0].filter.uri" in warning
