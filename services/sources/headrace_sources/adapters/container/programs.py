"""How one container is run: as a process of this machine, or by the docker command.

Both give a command line and an environment for a `GuardedProgram`. No shell is involved.
"""

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from headrace.runtime.guarded_program import passed_on
from headrace_sources.adapters.container.config import Container
from headrace_sources.adapters.container.expansion import expanded
from headrace_sources.source import SourceFault

INVALID: Final = "InvalidConfiguration"
ADAPTER_READY: Final = "ReceiveAdapterReady"
_VARIABLE_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*").fullmatch
_HOST_OF_DOCKER: Final = "host.docker.internal"
_PULL: Final = {"Always": "always", "Never": "never"}
_DOCKER_READS: Final = re.compile(
    r"(DOCKER_|LD_|DYLD_|GO|XDG_|SSL_CERT_).*|PATH|HOME|TMPDIR|(HTTPS?|NO|ALL)_PROXY", re.IGNORECASE
).fullmatch
"""Variables that change what the docker command itself does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variables:
    """The environment of a container."""

    values: Mapping[str, str]
    secret: frozenset[str] = field(default_factory=frozenset)
    """The names of those whose values may be in no command line."""

    def check(self, container: str) -> None:
        """Raise SourceFault for a name that no program can have."""
        for name in self.values:
            if not _VARIABLE_NAME(name):
                raise SourceFault(
                    INVALID,
                    f"container {container}: {name[:100]!r} is not a name of an environment"
                    " variable",
                    condition=ADAPTER_READY,
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """A command line, its environment, and where it runs."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    working_directory: str | None = None
    docker_name: str = ""
    """The name of the Docker container; empty for a process."""


def process(container: Container, variables: Variables, args: tuple[str, ...]) -> Invocation:
    """Return how a container is run as a process. Raises SourceFault if it has no command."""
    if not container.command:
        raise SourceFault(
            "CommandMissing",
            f"container {container.name} has no command, so it cannot run as a process; give it"
            " one, or let the sources service use Docker (HEADRACE_SOURCES_CONTAINERS=docker)",
            condition=ADAPTER_READY,
        )
    variables.check(container.name)
    values = variables.values
    return Invocation(
        command=tuple(expanded(each, values) for each in (*container.command, *args)),
        environment={**passed_on(), **values},
        working_directory=container.working_dir or None,
    )


def docker(
    container: Container,
    variables: Variables,
    args: tuple[str, ...],
    *,
    name: str,
    labels: Mapping[str, str],
) -> Invocation:
    """Return how a container is run by Docker. It has the network of this machine, so that it
    reaches what listens on the loopback address. Raises SourceFault.

    Values of Secrets are passed in the environment of the docker command, whose command line all
    users of the machine can read.
    """
    variables.check(container.name)
    for each in variables.secret:
        if _DOCKER_READS(each):
            raise SourceFault(
                INVALID,
                f"container {container.name}: the variable {each} cannot come from a Secret here,"
                " because the docker command reads it too; use another name",
                condition=ADAPTER_READY,
            )
    values = variables.values
    command = [expanded(each, values) for each in container.command]
    arguments = ["docker", "run", "--rm", "--name", name]
    arguments += [f"--label={key}={value}" for key, value in labels.items()]
    arguments += ["--network=host"] if _shares_network() else []
    arguments += [f"--pull={_PULL.get(container.image_pull_policy, 'missing')}"]
    arguments += [f"--workdir={container.working_dir}"] if container.working_dir else []
    arguments += [
        f"--env={each}" if each in variables.secret else f"--env={each}={value}"
        for each, value in values.items()
    ]
    arguments += [f"--entrypoint={command[0]}"] if command else []
    arguments += ["--", container.image, *command[1:], *(expanded(each, values) for each in args)]
    secret = {each: values[each] for each in variables.secret if each in values}
    return Invocation(
        command=tuple(arguments), environment={**docker_environment(), **secret}, docker_name=name
    )


def docker_environment() -> Mapping[str, str]:
    """The environment of the docker command: which daemon it uses is the operator's choice."""
    own = {name: value for name, value in os.environ.items() if name.startswith("DOCKER_")}
    return {**passed_on(), **own}


def sink_for_docker(sink: str) -> str:
    """The URL at which a Docker container reaches the sink. Where Docker runs in a virtual machine,
    a loopback address is the container's own.
    """
    parts = urlsplit(sink)
    if _shares_network() or not _is_loopback(parts.hostname or ""):
        return sink
    port = f":{parts.port}" if parts.port else ""
    return urlunsplit(parts._replace(netloc=f"{_HOST_OF_DOCKER}{port}"))


def _shares_network() -> bool:
    return sys.platform == "linux"


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
