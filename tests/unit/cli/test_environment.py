"""Which environment variables are refused."""

import re
from pathlib import Path

import pytest

from headrace.runtime.settings import BadSettings, Settings, variables
from headrace_cli.environment import (
    COMMAND_VARIABLES,
    COMPOSE_VARIABLES,
    SETTINGS,
    SHARED,
    reject_misspelt_variables,
)
from headrace_dispatcher.settings import DispatcherSettings
from headrace_ingress.settings import IngressSettings
from tests.unit.tree.settings_page import KINDS
from tests.unit.tree.sources import ROOT

OPTION = re.compile(r'(?:envvar=|_VARIABLE = )"(HEADRACE_\w+)"')
COMPOSE = re.compile(r"\$\{(HEADRACE_\w+)")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("HEADRACE_INGRES_PORT", "HEADRACE_INGRESS_PORT"),
        ("headrace_kafak_sasl_mechanism", "HEADRACE_KAFKA_SASL_MECHANISM"),
        ("HEADRACE_DISPATCHER_INSTANC", "HEADRACE_DISPATCHER_INSTANCE"),
        ("HEADRACE_SERVR", "HEADRACE_SERVER"),
        ("HEADRACE_INGRESS_PROT", "HEADRACE_INGRESS_PORT"),
    ],
)
def test_a_misspelt_name_is_refused_wherever_the_error_is(name: str, nearest: str) -> None:
    """In the name of the service too, and in settings of another one."""
    with pytest.raises(BadSettings, match=f"{name} is not .*; did you mean {nearest}[?]") as caught:
        reject_misspelt_variables((IngressSettings,), {name: "1"})
    assert (name,) == caught.value.settings


def test_a_variable_that_resembles_none_is_refused_without_a_suggestion() -> None:
    name = "HEADRACE_" + "0" * 40
    with pytest.raises(BadSettings, match=rf"{name} is not a setting of Headrace\Z"):
        reject_misspelt_variables((), {name: ""})


@pytest.mark.parametrize("own", [IngressSettings, DispatcherSettings])
def test_what_a_service_or_a_tool_reads_is_accepted_by_all_services(own: type[Settings]) -> None:
    """Images, compose files and shells have the variables of several."""
    known = {name for kind in KINDS for names in variables(kind).values() for name in names}
    others = {"PATH", "KAFKA_HOME", "HEADRACE_TEST", "HEADRACE_TEST_SEED", "HEADRACE_CRASH_AT"}
    compose = {each for each in COMPOSE_VARIABLES if not each.startswith(own.env_prefix)}
    accepted = known | COMMAND_VARIABLES | compose | others
    reject_misspelt_variables((own,), dict.fromkeys(accepted, "1"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HEADRACE_VIEWER_SERVICE_HOST", "10.0.0.1"),
        ("HEADRACE_VIEWER_SERVICE_PORT", "80"),
        ("HEADRACE_VIEWER_SERVICE_PORT_HTTP", "80"),
        ("HEADRACE_VIEWER_PORT", "tcp://10.0.0.1:80"),
        ("HEADRACE_VIEWER_PORT_80_TCP", "tcp://10.0.0.1:80"),
        ("HEADRACE_VIEWER_PORT_80_TCP_ADDR", "10.0.0.1"),
    ],
)
def test_what_kubernetes_sets_for_each_service_of_a_namespace_is_accepted(
    name: str, value: str
) -> None:
    """A Service `headrace-viewer` must not stop a pod beside it."""
    reject_misspelt_variables((IngressSettings,), {name: value})


def test_the_settings_of_all_services_are_known() -> None:
    found = {kind.env_prefix: (kind.__module__, kind.__name__) for kind in KINDS}
    assert found == {**SETTINGS, **{k.env_prefix: (k.__module__, k.__name__) for k in SHARED}}


def test_the_variables_of_options_and_of_compose_are_known() -> None:
    """As the files have them."""
    settings = {name for kind in KINDS for names in variables(kind).values() for name in names}
    options = set[str]()
    for file in Path(ROOT / "cli").rglob("*.py"):
        options |= set(OPTION.findall(file.read_text()))
    assert COMMAND_VARIABLES == options - settings | {"HEADRACE_API_TOKEN_FILE"}
    compose = set(COMPOSE.findall((ROOT / "docker-compose.yml").read_text())) - settings
    assert COMPOSE_VARIABLES == {each for each in compose if not each.startswith("HEADRACE_KAFKA_")}
