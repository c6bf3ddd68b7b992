"""`headrace config show`: what a service would start with here, and where it comes from."""

import json
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import pytest
from typer.testing import CliRunner

from headrace.runtime.loading import known_variables
from headrace.runtime.settings import Settings
from headrace_cli.config import _own_settings
from headrace_cli.environment import SHARED
from headrace_cli.main import application
from headrace_cli.services import ServiceName


def _show(*arguments: str) -> Any:
    command = ["config", "show", *arguments]
    return CliRunner().invoke(application(command), command)


def _items(service: str) -> dict[str, tuple[Any, str]]:
    found = _show(service, "-o", "json")
    assert 0 == found.exit_code, found.output
    items = json.loads(found.stdout)["items"]
    return {each["variable"]: (each["value"], each["source"]) for each in items}


@pytest.mark.parametrize("service", list(ServiceName))
def test_every_setting_of_a_service_is_shown(service: ServiceName) -> None:
    """Once, by the first of its variables."""
    kinds: Sequence[type[Settings]] = (*_own_settings(service), *SHARED)
    assert set(_items(service)) <= known_variables(kinds)
    assert len(_items(service)) == sum(len(fields(kind)) for kind in kinds)


def test_the_environment_counts_before_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the variable that sets it, of two names that it has."""
    assert ("127.0.0.1:9092", "default") == _items("ingress")["HEADRACE_KAFKA_BOOTSTRAP_SERVERS"]
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "kafka.example:9092")
    monkeypatch.setenv("HEADRACE_INGRESS_PORT", "9000")
    monkeypatch.setenv("HEADRACE_LOG_LEVEL", "")
    found = _items("ingress")
    assert ("kafka.example:9092", "environment") == found["KAFKA_BOOTSTRAP_SERVERS"]
    assert "HEADRACE_KAFKA_BOOTSTRAP_SERVERS" not in found
    assert (9000, "environment") == found["HEADRACE_INGRESS_PORT"]
    assert ("info", "default") == found["HEADRACE_LOG_LEVEL"]


@pytest.mark.parametrize(
    ("service", "variable", "value"),
    [
        ("dispatcher", "HEADRACE_MANAGEMENT_PORT", 9465),
        ("controller", "HEADRACE_CONTROLLER_KUBECONFIG_OUT", ".headrace/kubeconfig"),
        ("in-memory", "HEADRACE_INGRESS_PORT", 8082),
    ],
)
def test_the_defaults_are_those_of_the_command(service: str, variable: str, value: object) -> None:
    """Some differ from service to service."""
    assert (value, "default") == _items(service)[variable]


def test_a_password_in_a_url_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a user may write it, although there is a file for it."""
    monkeypatch.setenv("HEADRACE_CONTROLLER_INGRESS_URL", "http://me:letmein@ingress.example")
    found = _show("controller")
    assert "http://me:REDACTED@ingress.example" in found.stdout
    assert "letmein" not in found.output


def test_a_table_has_a_row_for_each() -> None:
    """With a dash for what is not set."""
    lines = _show("sources").stdout.splitlines()
    assert ["VARIABLE", "VALUE", "SOURCE"] == lines[0].split()
    rows = {line.split()[0]: line.split()[1:] for line in lines[1:]}
    assert ["-", "default"] == rows["HEADRACE_NATS_SERVERS"]
    assert ["8084", "default"] == rows["HEADRACE_SOURCES_PORT"]


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("HEADRACE_INGRESS_PROT", "1", "did you mean HEADRACE_INGRESS_PORT?"),
        ("HEADRACE_INGRESS_PORT", "x", "HEADRACE_INGRESS_PORT: Input should be a valid integer"),
    ],
)
def test_what_the_service_refuses_is_refused(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, words: str
) -> None:
    """With its message and its exit code."""
    monkeypatch.setenv(variable, value)
    found = _show("ingress")
    assert 2 == found.exit_code
    assert words in found.stderr


def test_an_unknown_output_or_service_is_refused() -> None:
    """With what there is."""
    found = _show("ingress", "-o", "wide")
    assert 2 == found.exit_code
    assert "expected table, json or yaml" in found.stderr
    found = _show("egress")
    assert 2 == found.exit_code
    assert "in-memory" in found.stderr
