"""Selectors: what they select, and the errors of malformed ones, with the messages of
kube-apiserver 1.34.
"""

from collections.abc import Mapping
from typing import Any

import pytest

from headrace.resources.resource import ResourceKind
from headrace_apiserver.requests.selectors import (
    EVERYTHING,
    TEXT_MAX,
    read_fields,
    read_labels,
    read_selection,
)
from headrace_apiserver.statuses import StatusError

THING = ResourceKind(
    group="test.dev", version="v1", kind="Thing", plural="things", singular="thing"
)
EVENT = ResourceKind(group="", version="v1", kind="Event", plural="events", singular="event")
NAMESPACE = ResourceKind(
    group="",
    version="v1",
    kind="Namespace",
    plural="namespaces",
    singular="namespace",
    namespaced=False,
)

LABELS = {"app": "web", "tier": "front", "n": "7", "empty": ""}

NAME_RULE = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an"
    " alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for"
    " validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
VALUE_RULE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.',"
    " and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or"
    " '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
PREFIX_RULE = (
    "prefix part a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters,"
    " '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex"
    " used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("", True),
        ("app=web", True),
        ("app==web", True),
        ("app=other", False),
        ("app!=web", False),
        ("app!=other", True),
        ("absent!=x", True),
        ("app in (web,api)", True),
        ("app in (api, mail)", False),
        ("absent in (a,)", False),
        ("app notin (api)", True),
        ("absent notin (api)", True),
        ("app notin ()", True),
        ("app", True),
        ("absent", False),
        ("!absent", True),
        ("! app", False),
        ("empty=", True),
        ("empty=,app", True),
        ("app=,tier", False),
        ("n>6", True),
        ("n<7", False),
        ("app>1", False),
        ("app=web,tier=front,!absent", True),
        ("app=web,tier=back", False),
        ("in", False),
        ("app=in", False),
    ],
)
def test_label_selectors(text: str, chosen: bool) -> None:
    """Every operator selects as in Kubernetes, also for absent labels."""
    assert chosen is all(test.passes(LABELS) for test in read_labels(text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        ("a=b c", "found 'c', expected: ',' or 'end of string'"),
        ("a in", "unable to parse requirement: found '' expected: '('"),
        ("a in b", "unable to parse requirement: found 'b' expected: '('"),
        ("a,", "found '', expected: identifier after ','"),
        ("a,,b", "found ',', expected: identifier after ','"),
        (",a", "found ',', expected: !, identifier, or 'end of string'"),
        ("=b", "found '=', expected: !, identifier, or 'end of string'"),
        ("(", "found '(', expected: !, identifier, or 'end of string'"),
        ("a=b=c", "found '=', expected: ',' or 'end of string'"),
        ("!a=b", "found '=', expected: ',' or 'end of string'"),
        ("!", "unable to parse requirement: found '', expected: identifier"),
        ("a=!b", "unable to parse requirement: found '!', expected: identifier"),
        ("a in (", "unable to parse requirement: found '', expected: ',', ')' or identifier"),
        ("a in (b,c", "unable to parse requirement: found '', expected: ',' or ')'"),
        ("a in (b c)", "unable to parse requirement: found 'c', expected: ',' or ')'"),
        ("a in (b=c)", "unable to parse requirement: found '=', expected: ',' or ')'"),
        (
            "a>x",
            (
                "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt'"
                " operators, the value must be an integer"
            ),
        ),
        ("a=-b", f'unable to parse requirement: values[0][a]: Invalid value: "-b": {VALUE_RULE}'),
        (
            "a in (b,-c)",
            f'unable to parse requirement: values[0][a]: Invalid value: "-c": {VALUE_RULE}',
        ),
        (
            "a=" + "e" * 64,
            (
                f'unable to parse requirement: values[0][a]: Invalid value: "{"e" * 64}": must be'
                " no more than 63 characters"
            ),
        ),
        (
            "/a",
            (
                'unable to parse requirement: <nil>: Invalid value: "/a": prefix part must be'
                " non-empty"
            ),
        ),
        ("B.d/a", f'unable to parse requirement: <nil>: Invalid value: "B.d/a": {PREFIX_RULE}'),
        (
            "e" * 64,
            (
                f'unable to parse requirement: <nil>: Invalid value: "{"e" * 64}": name part must'
                " be no more than 63 characters"
            ),
        ),
        (
            "a/b/c",
            (
                'unable to parse requirement: <nil>: Invalid value: "a/b/c": a qualified name'
                f" {NAME_RULE} with an optional DNS subdomain prefix and '/' (e.g."
                " 'example.com/MyName')"
            ),
        ),
    ],
)
def test_malformed_label_selectors_are_rejected(text: str, message: str) -> None:
    """400 with the message of the Kubernetes API server, which clients print."""
    with pytest.raises(StatusError) as caught:
        read_labels(text)
    assert (400, message) == (caught.value.code, str(caught.value))


@pytest.mark.parametrize(
    ("text", "document", "chosen"),
    [
        ("metadata.name=a", {"metadata": {"name": "a"}}, True),
        ("metadata.name==b", {"metadata": {"name": "a"}}, False),
        ("metadata.name!=b", {"metadata": {"name": "a"}}, True),
        ("metadata.name=a,", {"metadata": {"name": "a"}}, True),
        (
            "metadata.name=a,metadata.namespace!=x",
            {"metadata": {"name": "a", "namespace": "x"}},
            False,
        ),
        (
            "involvedObject.name=y,source=s",
            {"involvedObject": {"name": "y"}, "source": {"component": "s"}},
            True,
        ),
        ("involvedObject.uid=", {"involvedObject": {}}, True),
        ("type!=Normal", {"type": "Warning"}, True),
        (r"reason=a\,b\=c\\", {"reason": "a,b=c\\"}, True),
    ],
)
def test_field_selectors(text: str, document: Mapping[str, Any], chosen: bool) -> None:
    """Fields are compared as text, and an absent one is empty. A backslash escapes commas and
    operators.
    """
    assert chosen is all(test.passes(document) for test in read_fields(text, EVENT))


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("spec.x=1", THING, "field label not supported: spec.x"),
        (r"a\x=1", THING, r"field label not supported: a\x"),
        ("metadata.namespace=x", NAMESPACE, "field label not supported: metadata.namespace"),
        ("abc", THING, "invalid selector: 'abc'; can't understand 'abc'"),
        (r"metadata.name=a\x", THING, r"invalid field selector: invalid escape sequence: \x"),
        ("metadata.name=a\\", THING, "invalid field selector: invalid escape sequence: \\"),
        ("metadata.name=a=b", THING, "invalid field selector: unescaped character in value: 61"),
    ],
)
def test_unsupported_fields_are_rejected(text: str, kind: ResourceKind, message: str) -> None:
    """400; the field is never ignored."""
    with pytest.raises(StatusError) as caught:
        read_fields(text, kind)
    assert (400, message) == (caught.value.code, str(caught.value))


def test_definitions_can_add_selectable_fields() -> None:
    """A path in the definition of the kind is accepted and compared as text."""
    selection = read_selection(THING, None, "spec.size=3", selectable=("spec.size",))
    assert (True, False) == (
        selection.passes({"spec": {"size": 3}}),
        selection.passes({"spec": {"size": 4}}),
    )


def test_an_object_must_pass_both_selectors() -> None:
    """Labels and fields."""
    selection = read_selection(THING, "app=web", "metadata.name=a")
    chosen = [
        selection.passes({"metadata": {"name": name, "labels": labels}})
        for name in "ab"
        for labels in (LABELS, {}, None)
    ]
    assert [True, False, False, False, False, False] == chosen


def test_a_selection_has_the_only_name_that_can_pass() -> None:
    """So that a list by name is a single lookup."""
    names = [
        read_selection(THING, None, text).name
        for text in ("metadata.name=a", "metadata.name!=a", "metadata.name=a,metadata.name=b", "")
    ]
    assert ["a", None, None, None] == names


def test_no_selector_selects_everything() -> None:
    """Absent and empty parameters are no requirement."""
    assert EVERYTHING == read_selection(THING, None, "")
    assert EVERYTHING.everything


@pytest.mark.parametrize(
    "text", ["a" * (TEXT_MAX + 1), ",".join(f"a{number}" for number in range(300))]
)
def test_selectors_are_limited(text: str) -> None:
    """A text that is too long or has too many requirements is rejected before it costs anything."""
    with pytest.raises(StatusError, match="labelSelector"):
        read_labels(text)
