"""What is run for a container: command lines, environments, and references to variables."""

import pytest

from headrace.domain.sink_variables import SinkVariables
from headrace_sources.adapters.container.config import Container
from headrace_sources.adapters.container.expansion import expanded, expanded_environment
from headrace_sources.adapters.container.programs import Variables, docker, process, sink_for_docker
from headrace_sources.source import SourceFault

SINK = "http://127.0.0.1:8080/default/orders"


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("$(A)", "1"),
        ("x$(A)y$(B)", "x1y2"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$(C)", "$(C)"),
        ("$A ${A} $(", "$A ${A} $("),
    ],
)
def test_references_are_expanded_as_kubernetes_does(text: str, result: str) -> None:
    """An unknown one stays, and a dollar sign can be escaped."""
    assert expanded(text, {"A": "1", "B": "2"}) == result


def test_variables_refer_to_earlier_ones_and_the_sink_comes_last() -> None:
    """The value of a Secret is taken as it is; a variable of the sink's name is replaced."""
    entries = [("A", "1", True), ("B", "$(A)2", True), ("S", "$(A)", False), ("K_SINK", "x", True)]
    found = expanded_environment([*entries, ("C", "$(D)", True), ("D", "4", True)], {"K_SINK": "u"})
    assert found == {"A": "1", "B": "12", "S": "$(A)", "C": "$(D)", "D": "4", "K_SINK": "u"}


def test_a_process_has_command_arguments_and_directory() -> None:
    """And of this process's environment only what is harmless."""
    container = Container(name="c", image="i", command=("run", "$(A)"), working_dir="/tmp")
    found = process(container, Variables(values={"A": "1"}), ("--to=$(A)",))
    assert found.command == ("run", "1", "--to=1")
    assert found.working_directory == "/tmp"
    assert found.environment["A"] == "1"
    assert not [each for each in found.environment if each.startswith("HEADRACE_")]


def test_a_container_without_command_is_no_process() -> None:
    """The fault says what to do."""
    with pytest.raises(SourceFault, match="HEADRACE_SOURCES_CONTAINERS=docker"):
        process(Container(name="c", image="i"), Variables(values={}), ())


def test_docker_gets_no_secret_in_its_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every option is one argument, and the image cannot be taken for an option."""
    monkeypatch.setattr("sys.platform", "linux")
    container = Container(
        name="c",
        image="registry/image:1",
        command=("/run", "fast"),
        args=("$(A)",),
        working_dir="/srv",
        image_pull_policy="Never",
    )
    variables = Variables(values={"A": "1", "TOKEN": "s3cret"}, secret=frozenset({"TOKEN"}))
    found = docker(container, variables, container.args, name="n", labels={"l": "v"})
    assert found.command == (
        *("docker", "run", "--rm", "--name", "n", "--label=l=v", "--network=host", "--pull=never"),
        *("--workdir=/srv", "--env=A=1", "--env=TOKEN", "--entrypoint=/run"),
        *("--", "registry/image:1", "fast", "1"),
    )
    assert found.environment["TOKEN"] == "s3cret"
    assert "A" not in found.environment


@pytest.mark.parametrize("name", ["DOCKER_HOST", "LD_PRELOAD", "PATH", "https_proxy"])
def test_a_secret_does_not_change_what_docker_does(name: str) -> None:
    """A plain value of this name is an option of the command, which only the container sees."""
    container = Container(name="c", image="i")
    plain = docker(container, Variables(values={name: "x"}), (), name="n", labels={})
    assert f"--env={name}=x" in plain.command
    assert plain.environment.get(name) != "x"
    secret = Variables(values={name: "x"}, secret=frozenset({name}))
    with pytest.raises(SourceFault, match=name):
        docker(container, secret, (), name="n", labels={})


@pytest.mark.parametrize("name", ["", "A=B", "1A", "A B", "A\n"])
def test_a_name_that_no_variable_can_have_is_a_fault(name: str) -> None:
    """Whatever runs the container."""
    container, variables = Container(name="c", image="i", command=("x",)), {name: "1"}
    with pytest.raises(SourceFault, match="not a name"):
        process(container, Variables(values=variables), ())
    with pytest.raises(SourceFault, match="not a name"):
        docker(container, Variables(values=variables), (), name="n", labels={})


@pytest.mark.parametrize(
    ("platform", "sink", "result"),
    [
        ("linux", SINK, SINK),
        ("darwin", SINK, "http://host.docker.internal:8080/default/orders"),
        ("darwin", "http://localhost/x?y", "http://host.docker.internal/x?y"),
        ("darwin", "http://[::1]:1/x", "http://host.docker.internal:1/x"),
        ("darwin", "https://events.example.com/x", "https://events.example.com/x"),
    ],
)
def test_a_sink_on_this_machine_is_reached_from_docker(
    monkeypatch: pytest.MonkeyPatch, platform: str, sink: str, result: str
) -> None:
    """Where Docker runs in a virtual machine, the loopback address is another one."""
    monkeypatch.setattr("sys.platform", platform)
    assert sink_for_docker(sink) == result


def test_legacy_programs_get_the_sink_in_their_way_too() -> None:
    """Unless their owner gave one."""
    bound = SinkVariables(sink=SINK, extensions={"b": "2", "a": "1"}, legacy=True)
    assert bound.environment() == {
        "K_SINK": SINK,
        "K_CE_OVERRIDES": '{"extensions":{"a":"1","b":"2"}}',
        "SINK": SINK,
    }
    assert bound.arguments(["--x"]) == ["--x", f"--sink={SINK}"]
    assert bound.arguments(["-sink=http://a"]) == ["-sink=http://a"]
    assert SinkVariables(sink=SINK).arguments(["--x"]) == ["--x"]
    assert SinkVariables(sink=SINK, ca_certs="PEM").environment() == {
        "K_SINK": SINK,
        "K_CA_CERTS": "PEM",
    }
