"""The rules that all sources share."""

import pytest

from headrace.domain.field_errors import render
from headrace.resources.kinds import PING_SOURCE
from headrace.resources.resource import Resource
from headrace.resources.source import validate_source

SINK = {"uri": "http://sink.example/"}


def errors_of(extensions: dict[str, str]) -> str:
    """What validation says about overrides."""
    spec = {"sink": SINK, "ceOverrides": {"extensions": extensions}}
    metadata = {"namespace": "shop", "name": "beat"}
    return render(validate_source(Resource(PING_SOURCE, {"metadata": metadata, "spec": spec})))


@pytest.mark.clause("O7")
@pytest.mark.parametrize("name", ["id", "source", "specversion", "type", "Type", "ID"])
def test_required_attributes_are_not_overridden(name: str) -> None:
    """Also where the CRD is a user's own and has no rule for it."""
    path = f"spec.ceOverrides.extensions.{name}"
    assert errors_of({name: "x"}) == (
        f"must not set the field(s): {path}\nrequired attributes stay as they are"
    )


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("team", "red", ""),
        ("Team", "", ""),
        ("subject", "orders/3", ""),
        ("", "x", 'invalid key name ""'),
        ("my-team", "x", 'invalid key name "my-team"'),
        ("team", "x" * 8_193, "invalid value: 8193 characters"),
    ],
)
def test_extensions_are_set_in_every_event(name: str, value: str, expected: str) -> None:
    """Any optional attribute, with a name that an event may have."""
    found = errors_of({name: value})
    assert found.startswith(expected) if expected else found == ""
