"""The rules of WebhookSource."""

from typing import Any

import pytest

from headrace.domain.field_errors import render
from headrace.resources import webhook_source as rules
from headrace.resources.kinds import WEBHOOK_SOURCE
from headrace.resources.resource import Resource
from headrace_sources.adapters.webhook_attributes import parse_path

SECRET = {"name": "hook", "key": "secret"}
ORIGIN = "/apis/v1/namespaces/shop/webhooksources/x"


def source(**spec: Any) -> Resource:
    """An object as a client writes it."""
    full = {"sink": {"uri": "http://sink.example/"}, **spec}
    return Resource(WEBHOOK_SOURCE, {"metadata": {"name": "x", "namespace": "shop"}, "spec": full})


def mapped(**mapping: Any) -> Resource:
    """One that maps the attribute `type`."""
    return source(attributes={"type": mapping})


@pytest.mark.parametrize(
    ("checked", "message"),
    [
        (source(), ""),
        (source(signature={"scheme": "Slack", "secretKeyRef": SECRET}), ""),
        (mapped(path="$.a['b c'][0].d"), ""),
        (source(sink={}), "expected at least one, got none: spec.sink.ref, spec.sink.uri"),
        (source(sink=None), "missing field(s): spec.sink"),
        (
            source(signature={"scheme": "Slack"}),
            "missing field(s): spec.signature.secretKeyRef",
        ),
        (
            source(signature={"secretKeyRef": SECRET}),
            "must not set the field(s): spec.signature.secretKeyRef",
        ),
        (
            mapped(path="a..b"),
            "invalid value: a..b: spec.attributes.type.path",
        ),
        (mapped(header="a", value="b"), "invalid value: header, value: spec.attributes.type"),
        (mapped(), "expected exactly one of: header, path, value"),
        (source(attributes={"Shop": {"value": "x"}}), 'invalid key name "Shop": spec.attributes'),
        (
            source(attributes={"data": {"value": "x"}}),
            "must not set the field(s): spec.attributes.data",
        ),
        (source(delivery={"retry": -1}), "invalid value: -1: spec.delivery.retry"),
    ],
)
def test_what_is_valid(checked: Resource, message: str) -> None:
    """The message names the field."""
    found = render(rules.validate(rules.default(checked)))
    assert message in found
    assert bool(message) == bool(found)


@pytest.mark.parametrize(
    "path", ["$", "$.a", "a", "a[0]", "[0].a", "$['a b']", "a.", ".a", "a[x]", "a-b_c", "é", ""]
)
def test_the_controller_and_the_adapter_agree_on_paths(path: str) -> None:
    """A path that the controller lets through is one that the adapter takes, and vice versa."""
    try:
        parse_path(path)
    except ValueError:
        valid = False
    else:
        valid = True
    if path:
        assert valid == (not rules.validate(mapped(path=path)))


def test_an_open_address_is_warned_of() -> None:
    """A source without a signature."""
    assert rules.warnings(source()) == [rules.NOT_SIGNED]
    assert rules.warnings(source(signature={"scheme": "Bearer", "secretKeyRef": SECRET})) == []


@pytest.mark.parametrize(
    ("checked", "types"),
    [
        (source(), (("dev.headrace.webhook", ORIGIN),)),
        (mapped(value="t"), (("t", ORIGIN),)),
        (mapped(path="t"), ()),
        (source(signature={"scheme": "Stripe", "secretKeyRef": SECRET}), ()),
        (
            source(
                signature={"scheme": "Stripe", "secretKeyRef": SECRET},
                attributes={"type": {"value": "t"}, "source": {"value": "/s"}},
            ),
            (("t", "/s"),),
        ),
    ],
)
def test_the_types_of_its_events(checked: Resource, types: tuple[tuple[str, str], ...]) -> None:
    """Where they do not depend on the request."""
    assert rules.event_types(checked) == types
