"""Kafka names and routing keys are each built in one module."""

import re

from tests.unit.tree.sources import modules, texts

NAMING, ROUTING = "src/headrace/resources/naming.py", "src/headrace/domain/routing.py"
CONTROL = "src/headrace/domain/control_topics.py"
HOMES = {
    r"headrace\.(routing|resources|instances)": CONTROL,
    r"headrace\.delay(\..*)?": NAMING,
    r"\.(retry|dead)": NAMING,
    r"knative-(broker|trigger)-.*|knative-messaging-kafka\..*": NAMING,
    r"(addressable|subscription)/.*": ROUTING,
}


def test_names_in_kafka_and_routing_keys_are_built_in_one_place() -> None:
    """A second copy of a name or format could diverge."""
    elsewhere = [
        f"{path}:{line} {text!r} belongs in {home}"
        for path, module in modules().items()
        for line, text in texts(module)
        for form, home in HOMES.items()
        if path != home and re.fullmatch(form, text, re.DOTALL)
    ]
    assert [] == elsewhere


def test_the_forms_are_those_of_their_homes() -> None:
    """The test above looks for what these modules build."""
    found = {
        home: {text for _, text in texts(modules()[home])} for home in (CONTROL, NAMING, ROUTING)
    }
    for form, home in HOMES.items():
        assert any(re.fullmatch(form, text) for text in found[home]), form
