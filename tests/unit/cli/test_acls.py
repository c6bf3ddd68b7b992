"""`headrace acls`: commands and JSON. That they are enough, and none is unused, is in
`tests/integration/test_acls.py`.
"""

import json

from typer.testing import CliRunner

from headrace_cli.acls import ACLS
from headrace_cli.main import application
from headrace_cli.services import ServiceName

RUNNER = CliRunner()


def _run(*arguments: str) -> str:
    result = RUNNER.invoke(application(["acls"]), ["acls", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_each_acl_is_a_command() -> None:
    """With the principal of its service."""
    lines = _run("--bootstrap-server", "k:1").splitlines()
    assert len(lines) == len(ACLS)
    assert (
        "kafka-acls.sh --bootstrap-server k:1 --add --allow-principal 'User:headrace-ingress'"
        " --operation Describe --operation Read --topic 'headrace.routing'"
        " --resource-pattern-type literal"
    ) in lines


def test_those_of_one_service_are_shown_for_a_principal() -> None:
    """The name of a service is put where the option has a place for it."""
    lines = _run("sources", "--principal", "User:CN={service},O=x").splitlines()
    assert len(lines) == sum(each.service is ServiceName.SOURCES for each in ACLS)
    assert all("--allow-principal 'User:CN=sources,O=x'" in line for line in lines)


def test_json_has_a_field_for_each_part() -> None:
    """For tools that create ACLs by other means."""
    items = json.loads(_run("-o", "json"))["items"]
    assert len(items) == len(ACLS)
    assert {
        "service": "controller",
        "principal": "User:headrace-controller",
        "resourceType": "transactional-id",
        "name": "headrace.resources.writer",
        "patternType": "literal",
        "operations": ["Describe", "Write"],
    } in items
